"""The one command for the data: weights, voices, teachers, and the scenes of both sides.

    python -m models.interruption.data.prepare            # a night, on two busy cores
    python -m models.interruption.data.prepare --small    # some minutes, to see that it works

Every step skips what is finished, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import interviews


def _step(module: str, *arguments: object) -> None:
    print(f"== {module} {' '.join(map(str, arguments))}", flush=True)
    command = [sys.executable, "-m", f"models.interruption.{module}", *map(str, arguments)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_audio(parser)
    parser.add_argument("--whisper", help="see align: recordings without a text teach more with it")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    voices, short, shards, scenes = (160, 40, 1, 256) if arguments.small else (6000, 3000, 20, 2048)
    audio = ("--audio", arguments.audio)
    _step("data.downloads")
    _step("data.voices", "--count", voices, "--short", short)
    if not arguments.small:
        _step("label.teachers", *audio)
        _step(
            "label.align", *audio, *(("--whisper", arguments.whisper) if arguments.whisper else ())
        )
    _step("data.build", *audio, "--shards", shards, "--scenes", scenes)
    _step("data.build", *audio, "--side", "eval", "--shards", 1, "--scenes", min(scenes, 1200))
    _step("data.build", *audio, "--side", "eval", "--shards", 1, "--scenes", min(scenes, 300),
          "--only", "meeting_turn", "meeting_backchannel", "--name", "scenes-meetings")  # fmt: skip
    if interviews.table(cache_folder() / "more").exists():
        _step("data.build", *audio, "--side", "eval", "--shards", 1, "--scenes", min(scenes, 400),
              "--only", "interview_turn", "interview_backchannel",
              "--name", "scenes-interviews")  # fmt: skip


if __name__ == "__main__":
    main()

"""Makes the turns that the clients play: a sentence that is over, and one that pauses.

    python -m tests.end_to_end.make_turns FOLDER_WITH_MANIFEST

Both kinds come from one collection of read speech, at the same level on the same room noise, and
end with the same silence, so that nothing but the voice tells the answer. A pause is one that the
speaker made: what follows it is cut off. Needs numpy and soundfile; what it makes is committed.
"""

from __future__ import annotations

import csv
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.end_to_end.make_recordings import EVENT_DBFS, RATE, ROOM, ROOM_DBFS, at_level, faded

HERE = Path(__file__).parent / "recordings" / "turns"
LEAD_S, TAIL_S = 0.6, 0.8


@dataclass(frozen=True)
class Cut:
    name: str
    label: str  # finished, unfinished
    path: str
    start_s: float
    end_s: float  # where the speech ends
    source: str
    licence: str = "CC BY 4.0"


OCEAN = "SpeechOcean762 (J. Zhang et al., 2021)"
CUTS = (
    # one recording, at a pause and at its end
    Cut("unfinished-picture-office", "unfinished",
        "train/speech_ocean/001140064.flac", 0.3, 1.63, OCEAN),
    Cut("finished-picture-office-homework", "finished",
        "train/speech_ocean/001140064.flac", 0.3, 3.71, OCEAN),
    Cut("unfinished-four-three", "unfinished",
        "train/speech_ocean/001450037.flac", 0.3, 2.14, OCEAN),
    Cut("finished-she-would-be-sorry", "finished",
        "train/speech_ocean/000240324.flac", 0.3, 2.24, OCEAN),
    Cut("unfinished-how-can-i-do", "unfinished",
        "train/speech_ocean/014390154.flac", 0.3, 3.36, OCEAN),
    Cut("finished-he-knows", "finished",
        "train/speech_ocean/000360339.flac", 0.3, 3.55, OCEAN),
)  # fmt: skip


def main(folder: Path) -> None:
    room, rate = soundfile.read(folder / ROOM)
    assert rate == RATE
    HERE.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, cut in enumerate(CUTS):
        source, rate = soundfile.read(folder / cut.path)
        assert rate == RATE
        speech = source[round(cut.start_s * RATE) : round(cut.end_s * RATE)]
        speech = faded(at_level(speech, EVENT_DBFS))
        total = round((LEAD_S + TAIL_S) * RATE) + len(speech)
        scene = at_level(np.resize(np.roll(room, -number * RATE), total), ROOM_DBFS)
        at = round(LEAD_S * RATE)
        scene[at : at + len(speech)] += speech
        samples = np.clip(np.round(scene * 32767), -32768, 32767).astype("<i2")
        with wave.open(str(HERE / f"{cut.name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples.tobytes())
        rows.append([f"{cut.name}.wav", cut.label, f"{LEAD_S + len(speech) / RATE:.2f}", cut.path,
                     cut.start_s, cut.end_s, cut.source, cut.licence])  # fmt: skip
    with (HERE / "turns.csv").open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow("file label end_s cut_from start_s stop_s source licence".split())
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

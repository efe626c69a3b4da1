"""Nine moments of two real people, labelled by hand, as `evaluate --conversations` reads them.

    git clone --bare https://github.com/attenlabs/hotato FOLDER/attenlabs+hotato
    python -m models.interruption.evaluate.hotato --repositories FOLDER --out FOLDER/hotato
    python -m models.interruption.evaluate --out evaluation --conversations FOLDER/hotato/events.csv

Each is 9 s of two headsets of an AMI meeting (CC BY 4.0): one person holds the floor, the other
says something at 3 s, which by AMI's own words and times is a backchannel or takes the floor. Both
are on the evaluation's side in `splits.py`. The repository's four moments of another meeting are
left out, since training hears its people (`interviews.py`).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from models.interruption.data.collect import Clone, Source
from models.interruption.evaluate.conversations import COLUMNS

SOURCE = Source(
    "attenlabs/hotato", "c4c3a3841979e2d7f88649829c72bd516f8ba5ef",
    "CC BY 4.0 (AMI Meeting Corpus)", "hotato",
    r"corpus/real/scenarios/ami-en2002b-[\w-]+\.json", "", 1,
)  # fmt: skip
_LABELS = {True: "interruption", False: "backchannel"}


def event(scenario: dict[str, Any]) -> dict[str, object]:
    """The row of a scenario: what is said at its onset, until that first stretch of it ends."""
    onset = float(scenario["caller_onset_sec"])
    spans = scenario["reference_render"]["caller_segments_sec"]
    ends = [end for start, end in spans if abs(start - onset) < 0.1]
    if not ends:
        raise ValueError(f"{scenario['audio']}: nobody speaks at its onset, {onset} s")
    return {
        "audio": Path(scenario["audio"]).name,
        "channel": scenario["channels"]["caller_channel"],
        "label": _LABELS[scenario["expected"]["yield"]],
        "onset_s": onset,
        "end_s": ends[0],
        "source": scenario["provenance"]["caller"]["global_name"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=Path, required=True, help="folder of clones")
    parser.add_argument("--out", type=Path, required=True, help="for the sound and events.csv")
    arguments = parser.parse_args()
    clone = Clone(arguments.repositories, SOURCE)
    arguments.out.mkdir(parents=True, exist_ok=True)
    events = []
    for match in clone.matches(SOURCE.pattern):
        row = event(json.loads(clone.read(match[0])))
        (arguments.out / str(row["audio"])).write_bytes(
            clone.read(f"corpus/real/audio/{row['audio']}")
        )
        events.append(row)
    with (arguments.out / "events.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "source"])
        writer.writeheader()
        writer.writerows(events)
    print(f"{arguments.out / 'events.csv'}: {len(events)} events")


if __name__ == "__main__":
    main()

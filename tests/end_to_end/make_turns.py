"""Makes the turns that the clients play: a sentence that is over, and one that pauses.

Both kinds come from one collection of read speech, at the same level on the same room noise, and
end with the same silence, so that nothing but the voice tells the answer. A pause is one that the
speaker made: what follows it is cut off. They are made
when tests need them, like the others; turns.csv says what is in each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.end_to_end.make_recordings import (
    EVENT_DBFS,
    RATE,
    at_level,
    faded,
    made_folder,
    read,
    write_scene,
)

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
        "speech_ocean/001140064.flac", 0.3, 1.63, OCEAN),
    Cut("finished-picture-office-homework", "finished",
        "speech_ocean/001140064.flac", 0.3, 3.71, OCEAN),
    Cut("unfinished-four-three", "unfinished",
        "speech_ocean/001450037.flac", 0.3, 2.14, OCEAN),
    Cut("finished-she-would-be-sorry", "finished",
        "speech_ocean/000240324.flac", 0.3, 2.24, OCEAN),
    Cut("unfinished-how-can-i-do", "unfinished",
        "speech_ocean/014390154.flac", 0.3, 3.36, OCEAN),
    Cut("finished-he-knows", "finished",
        "speech_ocean/000360339.flac", 0.3, 3.55, OCEAN),
)  # fmt: skip


def make() -> None:
    """Make what is not there yet."""
    for number, cut in enumerate(CUTS):
        path = made_folder() / "turns" / f"{cut.name}.wav"
        if not path.is_file():
            speech = read(cut.path)[round(cut.start_s * RATE) : round(cut.end_s * RATE)]
            write_scene(path, faded(at_level(speech, EVENT_DBFS)), LEAD_S, TAIL_S, number)

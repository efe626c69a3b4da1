"""The trials that are scored: one caller's onset each, with a room before it, and what it was."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.interruption.data import collect, interviews, splits
from models.interruption.evaluate import channels
from models.interruption.evaluate.channels import SAMPLE_RATE, Samples
from models.interruption.pretrained.silero import VAD_FRAME, speech_probabilities

BEFORE_S, AFTER_S = 1.0, 2.0  # a window of the client: at most 3 s
SHORT = "made, short"  # table of single words by made voices
WORDS = "single words"  # table of recorded ones
COMMAND_WORDS = frozenset(("stop", "no", "go"))  # of these, what takes the floor
CLEAN_S = 1.2  # of a turn's start must be free of other voices to be scored
TURNS_OF_AN_INTERVIEW = 40
SAID_S = 0.6  # a turn with less after its onset says too little to count
TAIL_OF_ANOTHER_S = 0.2  # an overlap this short is an echo, not a second talker

BACKCHANNEL_WORDS = frozenset(
    "yeah yep yes yup okay ok mm hmm mhm mm-hmm uh-huh uh huh right sure wow oh ah great ha".split()
)
# Where the automatic label and the automatic words disagree, nobody knows: not scored.
UNCERTAIN = {("tst01", "4.773")}  # "No." labelled backchannel

TURN, BACKCHANNEL = "interruption", "backchannel"


@dataclass(frozen=True)
class Trial:
    """`samples` hold BEFORE_S before the onset and AFTER_S after it, at 16 kHz."""

    table: str  # positives and negatives are compared only inside one
    kind: str
    source: str  # what the bootstrap draws: a speaker, else a recording
    group: str  # speaker group or language
    samples: NDArray[np.int16]
    name: str
    held_out: bool = True
    fold: int | None = None
    detail: str = ""  # which kind of interruption

    @property
    def positive(self) -> bool:
        return self.kind == TURN


def read(path: Path) -> Samples:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return channels.resampled(samples[:, 0], rate, SAMPLE_RATE)


def manifest(audio: Path) -> list[dict[str, str]]:
    with (audio / "train/manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def only_backchannel_words(text: str) -> bool:
    words = text.lower().replace(".", " ").replace(",", " ").replace("?", " ").split()
    return bool(words) and all(word in BACKCHANNEL_WORDS for word in words)


def window_around(event: Samples, onset_s: float, tone: Samples) -> Samples:
    """The event from `onset_s` on, alone, with the room's tone before, under and after it."""
    wanted = round((BEFORE_S + AFTER_S) * SAMPLE_RATE)
    bed = looped(tone, wanted)
    lead = min(round(onset_s * SAMPLE_RATE), round(BEFORE_S * SAMPLE_RATE))
    begin = round(BEFORE_S * SAMPLE_RATE) - lead
    heard = event[round(onset_s * SAMPLE_RATE) - lead :][: wanted - begin]
    fade = min(160, len(heard) // 4)
    ramp = np.ones(len(heard))
    ramp[:fade] = np.linspace(0, 1, fade)
    ramp[len(heard) - fade :] = np.linspace(1, 0, fade)
    window = bed.copy()
    window[begin : begin + len(heard)] = heard * ramp + bed[begin : begin + len(heard)] * (1 - ramp)
    return window


def looped(tone: Samples, length: int) -> Samples:
    """Tone to and fro, so that its joints do not click."""
    there_and_back = np.concatenate([tone, tone[::-1]])
    return np.tile(there_and_back, -(-length // len(there_and_back)))[:length]


def found_onset(samples: Samples, around_s: float, back_s: float, ahead_s: float) -> float:
    """Where Silero first hears speech near an annotated start, as the client's onset does."""
    offset = max(0, round((around_s - back_s - 0.3) * SAMPLE_RATE))
    part = samples[offset : round((around_s + ahead_s) * SAMPLE_RATE)]
    level = max(channels.speech_level(part), 1e-6)
    heard = speech_probabilities((part * 0.05 / level).astype(np.float32)) >= 0.5
    for frame in np.flatnonzero(heard):
        at = (offset + int(frame) * VAD_FRAME) / SAMPLE_RATE
        if at >= around_s - back_s:
            return at
    return around_s


# --- AMI: turns and backchannels of the same people over the same headsets


@dataclass(frozen=True)
class Segment:
    speaker: str
    start: float
    end: float
    label: str
    text: str
    key: str


def ami_segments(audio: Path) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = defaultdict(list)
    path = audio / "train/conversation_ami/segments.csv"
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[Path(row["path"]).stem].append(
                Segment(
                    row["speaker"],
                    float(row["start_s"]),
                    float(row["end_s"]),
                    row["label"],
                    row["auto_text"],
                    row["start_s"],
                )
            )
    return found


def ami_kind(stem: str, segment: Segment) -> str | None:
    if (stem, segment.key) in UNCERTAIN:
        return None
    if segment.label == "backchannel":
        return BACKCHANNEL
    if segment.label in ("turn", "other_short") and not only_backchannel_words(segment.text):
        return TURN
    return None


def quiet_tone(samples: Samples, segments: list[Segment]) -> Samples:
    """The quietest 0.4 s in which nobody is annotated; where all talk, of the whole recording."""
    length = round(0.4 * SAMPLE_RATE)
    free = np.ones(len(samples), bool)
    for segment in segments:
        begin = max(0, round((segment.start - 0.1) * SAMPLE_RATE))
        free[begin : round((segment.end + 0.15) * SAMPLE_RATE)] = False
    starts = range(0, len(samples) - length, 800)
    level = {s: float((samples[s : s + length] ** 2).mean()) for s in starts}
    candidates = [s for s in starts if free[s : s + length].all()] or list(starts)
    best = min(candidates, key=lambda s: max(level[s], 1e-9))
    return samples[best : best + length]


def free_until(segment: Segment, start: float, everyone: list[Segment]) -> float:
    """How far after `start` no other annotated voice is heard (short tails do not count)."""
    until = segment.end
    for other in everyone:
        if other.speaker == segment.speaker or other.end <= start:
            continue
        if other.start <= start:
            if other.end - start > TAIL_OF_ANOTHER_S:
                return start
            continue
        until = min(until, other.start)
    return until


def starts_in(samples: Samples, segment: Segment) -> list[float]:
    """The start of a turn, and where its speaker goes on after a silence of 0.4 s or more."""
    part = samples[round(segment.start * SAMPLE_RATE) : round(segment.end * SAMPLE_RATE)]
    level = max(channels.speech_level(part), 1e-6)
    heard = speech_probabilities((part * 0.05 / level).astype(np.float32)) >= 0.5
    resumed, silent = [], 0
    for frame, speech in enumerate(heard):
        if speech and silent >= 13 and frame > 30:
            resumed.append(segment.start + frame * VAD_FRAME / SAMPLE_RATE)
        silent = 0 if speech else silent + 1
    return [segment.start, *resumed[:2]]


def ami(audio: Path) -> Iterator[Trial]:
    """One voice at a time (table `ami`), and as the microphones heard it (`ami_crosstalk`)."""
    for stem, segments in sorted(ami_segments(audio).items()):
        path = f"train/conversation_ami/{stem}.flac"
        samples = channels.scaled_to(read(audio / path), -26)  # one gain for all of a recording
        tone = quiet_tone(samples, segments)
        row = {"path": path, "speaker": "", "text": ""}
        held_out = splits.side(row) is splits.Side.EVAL
        for segment in segments:
            kind = ami_kind(stem, segment)
            if kind is None or segment.start < 0.05:
                continue
            starts = starts_in(samples, segment) if segment.label == "turn" else [segment.start]
            for number, start in enumerate(starts):
                back_s, ahead_s = (0.05 if number == 0 else 0.0), min(1.0, segment.end - start)
                onset = found_onset(samples, start, back_s, ahead_s)
                if kind == TURN and segment.end - onset < SAID_S:
                    continue  # cut off by the end of the recording or of the turn
                about = Trial(
                    table="ami",
                    kind=kind,
                    source=segment.speaker,
                    group="woman" if segment.speaker.startswith("F") else "man",
                    samples=channels.as_int16(raw_window(samples, onset)),
                    name=f"{stem}@{start:.2f}",
                    held_out=held_out,
                    fold=splits.ami_group(stem),
                )
                if number == 0:
                    yield replace(about, table="ami_crosstalk")
                until = free_until(segment, start, segments)
                if until - onset >= CLEAN_S or (until >= segment.end - 1e-6 and until > onset):
                    begin = max(0.0, onset - 0.05)
                    alone = samples[round(begin * SAMPLE_RATE) : round(until * SAMPLE_RATE)]
                    window = window_around(alone, onset - begin, tone)
                    yield replace(about, samples=channels.as_int16(window))


def held_out_interviews(more: Path) -> Iterator[Trial]:
    """Turns and backchannels of held-out people in video calls, one at a time (`interviews.py`)."""
    for path, rows in sorted(interviews.labelled(more, splits.Side.EVAL).items()):
        stem = Path(path).stem
        turns = [row for row in rows if row["label"] != "backchannel"]
        turns.sort(key=lambda row: crc32(f"{stem}@{row['start_s']}".encode()))
        left_out = {row["start_s"] for row in turns[TURNS_OF_AN_INTERVIEW:]}
        samples = channels.scaled_to(read(more / path), -26)  # one gain for all of a recording
        spans = [(float(row["start_s"]), float(row["end_s"])) for row in rows]
        tone = quiet_tone(samples, [Segment("", *span, "", "", "") for span in spans])
        for row, (start, end) in zip(rows, spans, strict=True):
            if row["label"] != "backchannel" and row["start_s"] in left_out:
                continue
            begin = max(0.0, start - 0.05)
            alone = samples[round(begin * SAMPLE_RATE) : round((end + 0.1) * SAMPLE_RATE)]
            window = window_around(alone, start - begin, tone)
            kind = BACKCHANNEL if row["label"] == "backchannel" else TURN
            known_late = float(row["decisive_s"]) > start + 0.05
            yield Trial(
                table="interview",
                kind=kind,
                source=stem,
                group="after a word of listening" if known_late else "at once",
                samples=channels.as_int16(window),
                name=f"{stem}@{start:.2f}-{row['text'][:30]}",
            )


def raw_window(samples: Samples, onset_s: float) -> Samples:
    begin = round((onset_s - BEFORE_S) * SAMPLE_RATE)
    end = begin + round((BEFORE_S + AFTER_S) * SAMPLE_RATE)
    cut = samples[max(0, begin) : min(end, len(samples))]
    return np.pad(cut, (max(0, -begin), max(0, end - len(samples))))


# --- recordings of many sources, all sent through the same simulated channels


KIND_OF_LABEL: Mapping[str, str] = {
    "cough": "cough",
    "baby_cry": "baby cry",
    "noise": "noise",
    "music": "music",
    "background_speech": "background speech",
}
GROUP_OF_FOLDER: Mapping[str, str] = {
    "speech_libri": "English, read",
    "speech_ocean": "English, Mandarin speakers",
    "short_calls": "single words and calls",
}


def recorded(audio: Path, at_most: int) -> Iterator[Trial]:
    """Held-out rows of the manifest; `at_most` of each label in a folder, by a hash of the name."""
    chosen: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in manifest(audio):
        folder = Path(row["path"]).parent.name
        if folder in ("conversation_ami", "rir") or splits.side(row) is not splits.Side.EVAL:
            continue
        chosen[f"{folder}/{row['label']}"].append(row)
    for rows in chosen.values():
        rows.sort(key=lambda row: crc32(row["path"].encode()))
        for row in rows[:at_most]:
            yield recorded_trial(audio, row)


def words(more: Path, at_most: int) -> Iterator[Trial]:
    """Single words of held-out people (`collect.WORDS`), `at_most` of each class."""
    if not (more / "train/manifest.csv").exists():
        return
    chosen: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for row in manifest(more):
        if Path(row["path"]).parent.name != collect.WORDS:
            continue
        listens = row["text"] in collect.LISTENING_WORDS
        if splits.side(row) is splits.Side.EVAL and (listens or row["text"] in COMMAND_WORDS):
            chosen[listens].append(row)
    for rows in chosen.values():
        rows.sort(key=lambda row: crc32(row["path"].encode()))
        for row in rows[:at_most]:
            yield replace(recorded_trial(more, row), table=WORDS)


def recorded_trial(audio: Path, row: Mapping[str, str]) -> Trial:
    folder = Path(row["path"]).parent.name
    kind = KIND_OF_LABEL.get(row["label"], TURN)
    if folder == collect.WORDS and row["text"] in collect.LISTENING_WORDS:
        kind = BACKCHANNEL
    rng = np.random.default_rng(crc32(row["path"].encode()))
    samples = read(audio / row["path"])
    onset = float(row["onset_s"]) if row["onset_s"] else 0.0
    if kind in (TURN, BACKCHANNEL):
        onset = found_onset(samples, onset, onset, 2.0)
    lead = min(onset, 0.03)
    event = samples[round((onset - lead) * SAMPLE_RATE) :]
    tone = channels.coloured_noise(SAMPLE_RATE, rng, 4) * channels.speech_level(samples) * 0.003
    window = window_around(event, lead, tone)
    channel = channels.drawn_channel(rng)
    if kind == "background speech":  # from across the room: twice its echo, 12 dB less of it
        for _ in range(2):
            window = channels.convolved(window, channels.made_room(rng))
        channel = replace(
            channel,
            level_dbfs=channel.level_dbfs - 12,
            noise_below_speech_db=channel.noise_below_speech_db - 12,
        )
    group = row["text"] if folder == collect.WORDS else GROUP_OF_FOLDER.get(folder, kind)
    if folder == "short_calls":
        group += f", {row['text'].rpartition('/')[2]}"
    return Trial(
        table="recorded",
        kind=kind,
        source=splits.group(row),
        group=group,
        samples=channels.as_int16(channels.through(window, channel, rng)),
        name=Path(row["path"]).stem,
    )


# --- made speech of voices that training never met, through the same simulated channels


def held_out_notes(voices: Path, at_most: int, short: bool = False) -> list[Path]:
    """The first utterances of `voices.py` whose voice training never met, short ones or others."""
    found = []
    for path in sorted(voices.glob("*.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        of_these = (int(path.stem) >= splits.SHORT_JOBS) is short
        if of_these and note["side"] == splits.Side.EVAL:
            found.append(path)
    return found[:at_most]


def made(notes: Iterable[Path], table: str = "made") -> Iterator[Trial]:
    """Made utterances through the same channels as `recorded`."""
    for path in notes:
        note = json.loads(path.read_text(encoding="utf-8"))
        rng = np.random.default_rng(crc32(f"made{path.stem}".encode()))
        onset = float(note["part_starts_s"][0])
        begin = max(0.0, onset - 0.03)
        event = read(path.with_suffix(".flac"))[round(begin * SAMPLE_RATE) :]
        tone = channels.coloured_noise(SAMPLE_RATE, rng, 4) * 3e-4
        window = window_around(event, onset - begin, tone)
        alone = list(note["kinds"]) == [BACKCHANNEL]
        heard = channels.through(window, channels.drawn_channel(rng), rng)
        yield Trial(
            table=table,
            kind=BACKCHANNEL if alone else TURN,
            source="+".join(note["voices"]),
            group=str(note["language"]),
            samples=channels.as_int16(heard),
            name=path.stem,
            detail="" if alone else " + ".join(note["kinds"]),
        )


def made_noises(each: int) -> Iterator[Trial]:
    """Hums, laughs, breaths and taps of the generators that training uses too, by other seeds."""
    from models.interruption.data import nonverbal

    makers = {
        "hum, generated": nonverbal.hum,
        "laugh, generated": nonverbal.laugh,
        "breath, generated": nonverbal.breath,
        "throat, generated": nonverbal.throat,
        "taps, generated": nonverbal.taps,
        "tones, generated": nonverbal.tones,
    }
    for kind, make in makers.items():
        for number in range(each):
            name = f"{kind.partition(',')[0]}-{number}"
            rng = np.random.default_rng(crc32(f"evaluation {name}".encode()))
            tone = channels.coloured_noise(SAMPLE_RATE, rng, 4) * 3e-4
            window = window_around(make(rng).astype(np.float64) * 0.5, 0.0, tone)
            heard = channels.through(window, channels.drawn_channel(rng), rng)
            yield Trial("made", kind, name, kind, channels.as_int16(heard), name)


def echoed(spoken: Trial) -> Trial:
    """A held-out voice as the agent's own, leaking back 15 to 30 dB below a caller's level."""
    rng = np.random.default_rng(crc32(f"echo {spoken.name}".encode()))
    quiet = channels.convolved(spoken.samples / 32768.0, channels.made_room(rng))
    quiet = channels.scaled_to(quiet, -26 - rng.uniform(15, 30))
    room = channels.coloured_noise(len(quiet), rng, 4) * 10 ** (-58 / 20)
    return replace(
        spoken,
        kind="echo of the agent",
        group="echo of the agent",
        detail="",
        samples=channels.as_int16(quiet + room),
    )


# --- the same trials over worse lines


def over_telephone(trial: Trial) -> Trial:
    heard = channels.through_mu_law(trial.samples / 32768.0)
    return replace(trial, table=f"{trial.table}, telephone", samples=channels.as_int16(heard))


def quieter(trial: Trial, by_db: float) -> Trial:
    """The same call by somebody who speaks softly or sits far from the microphone."""
    samples = trial.samples * 10 ** (-by_db / 20)
    return replace(trial, samples=np.round(samples).astype(np.int16))


def in_noise(trial: Trial, beds: Mapping[str, Samples], snr_db: float) -> Trial:
    """`beds` are held-out noises; which one is drawn by the trial's name, not by its class."""
    rng = np.random.default_rng(crc32(f"{trial.name}{snr_db}".encode()))
    name = sorted(beds)[int(rng.integers(len(beds)))]
    bed = np.roll(beds[name], int(rng.integers(len(beds[name]))))
    heard = channels.with_noise(trial.samples / 32768.0, bed, snr_db)
    peak = float(np.abs(heard).max())
    return replace(
        trial,
        table=f"{trial.table}, noise {snr_db:g} dB",
        samples=channels.as_int16(heard / max(1.0, peak / 0.98)),
    )


def noise_beds(audio: Path) -> dict[str, Samples]:
    """Babble of held-out readers, a held-out studio voice as television, and hiss."""
    rng = np.random.default_rng(11)
    length = 6 * SAMPLE_RATE
    readers, television = [], []
    for row in manifest(audio):
        if splits.side(row) is not splits.Side.EVAL:
            continue
        folder = Path(row["path"]).parent.name
        if folder == "speech_libri":
            readers.append(row["path"])
        elif folder == "ivr_speech":
            television.append(row["path"])
    readers.sort(key=lambda path: crc32(b"babble" + path.encode()))
    babble = np.zeros(length)
    for path in readers[:6]:
        babble += looped(channels.scaled_to(read(audio / path), -20), length)
    beds = {"babble": babble, "hiss": channels.coloured_noise(length, rng, 4)}
    if television:
        voice = read(audio / sorted(television)[0])
        beds["television"] = channels.convolved(looped(voice, length), channels.made_room(rng))
    return beds

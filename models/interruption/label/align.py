"""When each phoneme sounds in recordings of people, so that they teach words as made voices do.

    pip install faster-whisper==1.2.1
    python -m models.interruption.label.align --whisper base

What is said was written down by those who recorded it, else a recogniser (`--whisper`: a
faster-whisper model, a folder or a name) writes it; espeak makes phonemes of it; and a network of
its own, which learns phonemes from made voices and then from these recordings too, says when each
of them sounds: the most likely path through all of them, in order, with silence wherever a word
ends. A recording that fits its text badly is left out. Minutes, but for the recogniser's texts,
which are kept; nothing is done again while no recording is new.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import features
from models.interruption.data.answers import FITS, PHONEMES, Phonemes
from models.interruption.data.clips import Clip, Clips, pauses
from models.interruption.data.phonemes import PHONEME_CLASSES, numbered, with_pauses
from models.interruption.data.scenes import FRAME_S
from models.interruption.data.splits import Side
from models.interruption.train.augment import others, varied

_KINDS = ("speech_libri", "speech_ocean", "speech_more", "interview_turn",
          "interview_backchannel", "meeting_turn", "meeting_backchannel", "word_call",
          "word_backchannel")  # fmt: skip
_CUT = ("interview_turn", "meeting_turn")  # these may end before their text does,
_CUT_S = 5.9  # and what is longer than this (`collect` cuts after 6 s)
_SILENCE = 0  # also what `numbered` gives for what is between words
_LEVEL = 0.05  # RMS, -26 dBFS: a usual loudness of speech
_BEFORE_S, _AFTER_S = 0.25, 0.2
_LONGEST_FRAMES = 480  # 12 s
_BATCH = 32
_NEVER = -99.0  # how well a text fits that cannot be what is said
_ROOM = -1.4  # a feature where nothing sounds, after a clip that is shorter than its batch


def states(phonemes: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Classes in the order in which they sound, and which of them may be left out: silences.

    Signs of stress and length are no sounds of their own.
    """
    found: list[tuple[int, bool]] = [(_SILENCE, True)]
    for sign, number in zip(phonemes, numbered(phonemes), strict=True):
        if sign.isalpha() and sign not in "ˈˌː":
            found.append((int(number), False))
        elif number == _SILENCE and found[-1][0] != _SILENCE:
            found.append((_SILENCE, True))
    if found[-1][0] != _SILENCE:
        found.append((_SILENCE, True))
    classes, optional = zip(*found, strict=True)
    return np.array(classes, np.int64), np.array(optional, np.bool_)


def best_path(
    likely: NDArray[np.float32],
    classes: NDArray[np.int64],
    optional: NDArray[np.bool_],
    may_end_early: bool = False,
) -> NDArray[np.int64] | None:
    """The state of each frame, by Viterbi; None where there are too few frames for all of them.

    `likely` is [frames, classes]. A state lasts for a frame or more.
    """
    frames, count = len(likely), len(classes)
    if frames < int((~optional).sum()) and not may_end_early:
        return None
    scores = np.full(count, -np.inf, np.float64)
    scores[0] = likely[0, classes[0]]
    if optional[0] and count > 1:
        scores[1] = likely[0, classes[1]]
    came = np.zeros((frames, count), np.int64)
    own = np.arange(count)
    for frame in range(1, frames):
        stay, step, skip = scores, np.full(count, -np.inf), np.full(count, -np.inf)
        step[1:] = scores[:-1]
        skip[2:] = np.where(optional[1:-1], scores[:-2], -np.inf)
        choices = np.stack([stay, step, skip])
        taken = choices.argmax(axis=0)
        came[frame] = own - taken
        scores = choices[taken, own] + likely[frame, classes]
    last = count - 1
    ends = range(count) if may_end_early else [last, last - 1] if optional[last] else [last]
    state = max(ends, key=lambda s: scores[s])
    if not np.isfinite(scores[state]):
        return None
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state = came[frame, state]
    return path


def aligned(
    clip: Clip,
    phonemes: str,
    heard: NDArray[np.float32],
    prior: NDArray[np.float32],
    first_s: float,
) -> dict[str, Any]:
    """Starts in seconds of the clip with the class of each, and how well they fit.

    What cannot be that text, for it has too few frames or no sound, has neither.
    `heard` is [frames, classes], log probabilities from `first_s` of the clip on.
    """
    classes, optional = states(phonemes)
    cut = clip.kind in _CUT or clip.end_s - clip.onset_s > _CUT_S
    path = best_path(heard - prior, classes, optional, cut)
    said = classes[path] if path is not None else np.zeros(0, np.int64)
    sounding = said != _SILENCE
    if path is None or not sounding.any():
        return {"fits": _NEVER, "starts_s": [], "classes": []}
    fits = float(heard[np.arange(len(path)), said][sounding].mean())
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    starts = first_s + changes * FRAME_S
    return {
        "fits": round(fits, 3),
        "starts_s": [round(float(t), 3) for t in starts],
        "classes": [int(c) for c in said[changes]],
    }


def texts(clips: list[Clip], kept: Path, whisper: str | None) -> dict[str, str]:
    """What is said in each clip by its name; a recogniser's texts are kept in a file."""
    known = json.loads(kept.read_text()) if kept.exists() else {}
    missing = [clip for clip in clips if not clip.text and clip.name not in known]
    if missing and whisper is not None:
        from faster_whisper import WhisperModel

        model = WhisperModel(whisper, device="cpu", compute_type="int8", cpu_threads=1)
        started = time.monotonic()
        for count, clip in enumerate(missing, start=1):
            segments, _ = model.transcribe(
                clip.samples.astype(np.float32) / 32768, language="en", beam_size=1, temperature=0,
                without_timestamps=True, condition_on_previous_text=False,
            )  # fmt: skip
            known[clip.name] = " ".join(segment.text.strip() for segment in segments)
            if count % 50 == 0 or count == len(missing):
                _write(kept, known)
                print(
                    f"text {count}/{len(missing)}, {time.monotonic() - started:.0f} s", flush=True
                )
    return known | {clip.name: clip.text for clip in clips if clip.text}


def _write(path: Path, content: object) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, ensure_ascii=False))
    os.replace(partial, path)


class Aligner(nn.Module):
    """Features [batch, frames, SIZE] of whole clean clips -> logits of phonemes, both ways."""

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        self.stem = nn.Conv1d(features.SIZE, width, 5, padding=2)
        self.gru = nn.GRU(width, width, num_layers=2, bidirectional=True, batch_first=True,
                          dropout=0.3)  # fmt: skip
        self.phonemes = nn.Linear(2 * width, PHONEME_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x.transpose(1, 2))).transpose(1, 2)
        y, _ = self.gru(nn.functional.dropout(y, 0.3, self.training))
        found: Tensor = self.phonemes(y)
        return found


@dataclass(frozen=True)
class Sound:
    """A clip as the aligner hears it: its features, from `first_s` of the clip on."""

    clip: Clip
    x: NDArray[np.float32]
    first_s: float

    def said(self, phonemes: Phonemes) -> NDArray[np.int64]:
        """The class of what sounds in the middle of each frame."""
        quiet = pauses(self.clip.samples, self.clip.onset_s, self.clip.end_s)
        starts, spoken = with_pauses(*phonemes, quiet)
        middle = self.first_s + (np.arange(len(self.x)) + 0.5) * FRAME_S
        index = np.searchsorted(starts, middle, side="right") - 1
        inside = (index >= 0) & (middle <= self.clip.end_s)
        return np.where(inside, spoken[np.clip(index, 0, None)], _SILENCE).astype(np.int64)


def sound_of(clip: Clip) -> Sound:
    """From a quarter of a second before its onset to its end, at a usual loudness."""
    first = max(clip.onset_s - _BEFORE_S, 0.0)
    samples = clip.samples[int(first * 16_000) : int((clip.end_s + _AFTER_S) * 16_000)]
    sound = samples[: _LONGEST_FRAMES * features.FRAME].astype(np.float32)
    sound = sound * np.float32(_LEVEL * 32768 / max(float(np.sqrt((sound**2).mean())), 1.0))
    sound = np.pad(sound, (0, -len(sound) % features.FRAME))
    return Sound(clip, features.of(np.round(np.clip(sound, -32768, 32767)).astype(np.int16)), first)


def trained(
    aligner: Aligner, examples: list[tuple[Sound, NDArray[np.int64]]], epochs: int, seed: int
) -> None:
    """Goes on with the aligner: sounds with the class [frames] of each of their frames."""
    draw = torch.Generator().manual_seed(seed)
    by_length = sorted(examples, key=lambda one: len(one[1]))
    batches = [by_length[i : i + _BATCH] for i in range(0, len(by_length), _BATCH)]
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, epochs * len(batches), pct_start=0.15
    )
    for epoch in range(epochs):
        aligner.train()
        total, started = 0.0, time.monotonic()
        for at in torch.randperm(len(batches), generator=draw).tolist():
            frames = max(len(classes) for _, classes in batches[at])
            x = torch.full((len(batches[at]), frames, features.SIZE), _ROOM)
            target = torch.full((len(batches[at]), frames), -1)
            for row, (sound, classes) in enumerate(batches[at]):
                x[row, : len(classes)] = torch.from_numpy(sound.x)
                target[row, : len(classes)] = torch.from_numpy(classes)
            logits = aligner(varied(others(x, draw), draw))
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(aligner.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        took = time.monotonic() - started
        print(f"aligner epoch {epoch + 1}/{epochs} {total / len(batches):.3f}, {took:.0f} s",
              flush=True)  # fmt: skip
    aligner.eval()


def heard(aligner: Aligner, sound: Sound) -> NDArray[np.float32]:
    """Log probabilities [frames, classes]."""
    with torch.no_grad():
        logits = aligner(torch.from_numpy(sound.x)[None])[0]
        return np.asarray(torch.log_softmax(logits, dim=1).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_audio(parser)
    parser.add_argument("--voices", default="voices-1")
    parser.add_argument("--whisper", help="faster-whisper model: folder or name")
    parser.add_argument("--texts-only", action="store_true", help="no phonemes yet")
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[12, 5],
        help="of each round; the first hears made voices alone, the next what they could align",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    root = cache_folder()
    folder = root / "teachers"
    folder.mkdir(exist_ok=True)
    every = Clips(arguments.audio, root / arguments.voices, Side.TRAIN, more=root / "more")
    clips = every.every(lambda clip: clip.kind in _KINDS)
    said = texts(clips, folder / "texts.json", arguments.whisper)
    if arguments.texts_only:
        return

    from kokoro_onnx.tokenizer import Tokenizer

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = Tokenizer()
    made = []
    for clip in every.every(lambda clip: clip.phonemes is not None):
        sound = sound_of(clip)
        assert clip.phonemes is not None
        made.append((sound, sound.said(clip.phonemes)))
    recorded = [
        (sound_of(clip), str(tokenizer.phonemize(said[clip.name].lower(), "en-us")).strip())
        for clip in clips
        if said.get(clip.name, "").strip()
    ]
    kept = folder / PHONEMES
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if not made or {sound.clip.name for sound, _ in recorded} <= known.keys():
        print(f"{len(known)} recordings aligned, none is new", flush=True)
        return
    counts = np.bincount(np.concatenate([classes for _, classes in made]),
                         minlength=PHONEME_CLASSES)  # fmt: skip
    prior = np.log(counts / counts.sum() + 1e-4).astype(np.float32)
    aligner, examples, found = Aligner(), made, {}
    for number, epochs in enumerate(arguments.epochs):
        trained(aligner, examples, epochs, arguments.seed + number)
        found = {
            sound.clip.name: aligned(
                sound.clip, phonemes, heard(aligner, sound), prior, sound.first_s
            )
            for sound, phonemes in recorded
        }
        good = {name: one for name, one in found.items() if one["fits"] >= FITS}
        fits = np.percentile([one["fits"] for one in found.values()], [10, 25, 50, 75, 90])
        print(f"round {number + 1}: {len(good)} of {len(recorded)} recordings fit their text; "
              f"tenth to nine tenths {np.round(fits, 2)}", flush=True)  # fmt: skip
        examples = made + [
            (sound, sound.said((np.array(one["starts_s"]), np.array(one["classes"], np.int16))))
            for sound, _ in recorded
            if (one := good.get(sound.clip.name)) is not None
        ]
    _write(folder / PHONEMES, found)


if __name__ == "__main__":
    main()

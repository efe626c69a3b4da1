"""What the interruption model makes of a recording: for people who choose thresholds.

    text = analyse(Path("call.wav"), model, channel=1, plot=Path("call.png"))

The recording is treated as a client would treat the caller's microphone: where sound begins,
windows are asked about, one for each 100 ms, with up to 1 s of what came before. Clients find that
onset with a VAD; here loudness stands in for it, unless the onsets are given.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.engines.interruption.decision import eager, first_detection
from gateway.engines.interruption.model import BargeinModel, Question
from gateway.engines.onnx import FrameModel
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats
from gateway.settings.extras import how_to_install

BEFORE_S: Final = 1.0
"""What a client sends along from before the onset, at most."""

STEP_S: Final = 0.1
"""A client asks once for so much new audio."""

SILENCE_S: Final = 0.55
"""After so much silence a client's VAD calls the caller's speech ended."""

RECORDING_S_MAX: Final = 4 * 3600
"""Longer ones are cut by whoever wants them looked at: all of it is held in memory."""

EAGERNESS: Final = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
"""For which it is told what would be decided."""

_LEVEL_STEP_S: Final = 0.01
_ABOVE_FLOOR_DB: Final = 12.0
_FAINTEST_DBFS: Final = -60.0
_SOUND_S_MIN: Final = 0.06  # less is a click

Audio = npt.NDArray[np.float64]


class AnalyseError(Exception):
    """The recording cannot be analysed; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of a file, at the model's rate."""

    name: str
    samples: npt.NDArray[np.int16]
    rate: int
    file_rate: int
    channel: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.samples.size / self.rate


@dataclass(frozen=True, slots=True)
class Segment:
    """The caller's sound from onset to end, and what was decided of it while it went on.

    `times_s` says when each probability was known, from the start of the recording; `decided_s`
    when the answer came that said interruption; `answers` are all answers with their times.
    """

    onset_s: float
    end_s: float
    times_s: tuple[float, ...]
    probabilities: tuple[float, ...]
    decided_s: float | None
    answers: tuple[tuple[float, Floats], ...] = ()

    @property
    def highest(self) -> float:
        after = [
            p for t, p in zip(self.times_s, self.probabilities, strict=True) if t > self.onset_s
        ]
        return max(after, default=0.0)


def analyse(
    recording: Path,
    model: FrameModel,
    *,
    channel: int = 0,
    threshold: float | None = None,
    min_frames: int = 2,
    eagerness: float = 0.0,
    onsets_s: Sequence[float] = (),
    plot: Path | None = None,
) -> str:
    """A table of the caller's segments with the time of each decision, and what would be decided
    with other `bargein.eagerness` than the one given; also draws `plot`.

    `channel` counts from 0. `onsets_s` replaces the onsets found by loudness. WAV files of 16 bits
    need nothing else; other files need soundfile, a plot matplotlib: both come with the extra
    `analyse`. Raises AnalyseError.
    """
    heard = read(recording, channel, model.card.sample_rate)
    limit = model.card.default_threshold if threshold is None else threshold
    found = [
        judged(heard, model, onset_s, end_s, limit, min_frames, eagerness)
        for onset_s, end_s in (
            spans_from(onsets_s, heard.seconds) if onsets_s else sounds(heard.samples, heard.rate)
        )
    ]
    if plot is not None:
        draw(heard, found, limit, plot)
    origin = "the model's default" if threshold is None else "as asked"
    rule = f"threshold {limit:g} ({origin}), eagerness {eagerness:g}"
    text = described(heard, found, model, rule, min_frames)
    return text + curve(found, limit, min_frames, eagerness) if found else text


def read(path: Path, channel: int, rate: int) -> Recording:
    """One channel of the file, at `rate`. Raises AnalyseError."""
    if not path.is_file():
        raise AnalyseError(f"{path}: there is no such file")
    samples, file_rate = _read_wav(path) or _read_any(path)
    if not 0 <= channel < samples.shape[1]:
        raise AnalyseError(
            f"{path}: has {samples.shape[1]} channel(s): --channel counts from 0, not {channel}"
        )
    if samples.shape[0] > RECORDING_S_MAX * file_rate:
        raise AnalyseError(f"{path}: longer than {RECORDING_S_MAX // 3600} hours: cut it first")
    heard = resampled(samples[:, channel], file_rate, rate)
    return Recording(
        name=path.name,
        samples=np.clip(np.round(heard * 32767), -32768, 32767).astype(np.int16),
        rate=rate,
        file_rate=file_rate,
        channel=channel,
        channels=samples.shape[1],
    )


def _read_wav(path: Path) -> tuple[Audio, int] | None:
    """A WAV file of 16-bit samples; None for any other, which soundfile may know."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                return None
            channels, rate = file.getnchannels(), file.getframerate()
            data = file.readframes(RECORDING_S_MAX * rate + 1)
    except (wave.Error, EOFError):
        return None
    whole = len(data) // (2 * channels) * 2 * channels
    samples = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
    return samples.astype(np.float64) / 32768, rate


def _read_any(path: Path) -> tuple[Audio, int]:
    try:
        import soundfile
    except ImportError:
        raise AnalyseError(
            f"{path}: only WAV files of 16-bit samples can be read without the package "
            f"soundfile ({how_to_install('analyse')})"
        ) from None
    try:
        samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AnalyseError(f"{path}: not a sound file: {error}") from None
    return np.asarray(samples, np.float64), int(rate)


def resampled(samples: Audio, rate: int, wanted: int) -> Audio:
    """Band-limited, by the spectrum of the whole: for recordings, not for streams."""
    if rate == wanted or not samples.size:
        return samples
    step = rate // int(np.gcd(rate, wanted))
    padded = np.pad(samples, (0, -samples.size % step))
    length = padded.size * wanted // rate
    bins = length // 2 + 1
    spectrum = np.fft.rfft(padded)[:bins]
    full = np.pad(spectrum, (0, bins - spectrum.size))
    return np.asarray(np.fft.irfft(full, length) * (length / padded.size), np.float64)


def sounds(samples: npt.NDArray[np.int16], rate: int) -> list[tuple[float, float]]:
    """Onset and end of each stretch that stands out from the quiet of the recording."""
    step = round(_LEVEL_STEP_S * rate)
    frames = samples[: samples.size // step * step].reshape(-1, step).astype(np.float64) / 32768
    if not frames.size:
        return []
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = level > max(float(np.percentile(level, 15)) + _ABOVE_FLOOR_DB, _FAINTEST_DBFS)
    found: list[tuple[int, int]] = []
    for at in np.flatnonzero(loud).tolist():
        if found and (at - found[-1][1]) * _LEVEL_STEP_S <= SILENCE_S:
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
    return [
        (begin * _LEVEL_STEP_S, end * _LEVEL_STEP_S)
        for begin, end in found
        if loud[begin:end].sum() * _LEVEL_STEP_S >= _SOUND_S_MIN
    ]


def spans_from(onsets_s: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """Each given onset lasts until the next, 3 s at most, or the end of the recording."""
    ordered = sorted(onsets_s)
    if ordered and not 0 <= ordered[0] <= ordered[-1] < seconds:
        raise AnalyseError(f"an onset lies outside the recording, which has {seconds:.2f} s")
    ends = [*ordered[1:], seconds]
    return [
        (begin, min(end, begin + INTERRUPTION_WINDOW_S_MAX))
        for begin, end in zip(ordered, ends, strict=True)
    ]


def judged(
    recording: Recording,
    model: FrameModel,
    onset_s: float,
    end_s: float,
    threshold: float,
    min_frames: int,
    eagerness: float = 0.0,
) -> Segment:
    """Ask for every 100 ms of the segment what the server would answer."""
    rate, frame = recording.rate, model.card.frame_samples
    server = BargeinModel(model)
    track = server.track()
    begin = max(0, round((onset_s - BEFORE_S) * rate))
    last = min(recording.samples.size, round((end_s + SILENCE_S) * rate))
    step, longest = round(STEP_S * rate), round(INTERRUPTION_WINDOW_S_MAX * rate)
    times: list[float] = []
    probabilities: list[float] = []
    answers: list[tuple[float, Floats]] = []
    for end in range(round(onset_s * rate) + step, last + 1, step):
        window = recording.samples[max(begin, end - longest) : end]
        known = track.frames_run
        (heard,) = server.run([Question(track, window.astype("<i2").tobytes())])
        answer = eager(heard, eagerness)
        fresh = answer[max(0, answer.size - (track.frames_run - known)) :]
        probabilities += [float(p) for p in fresh]
        times += [(end - (fresh.size - 1 - i) * frame) / rate for i in range(fresh.size)]
        answers.append((end / rate, answer))
    decided_s = _decided(answers, threshold, min_frames, 0.0)
    return Segment(onset_s, end_s, tuple(times), tuple(probabilities), decided_s, tuple(answers))


def _decided(
    answers: Sequence[tuple[float, Floats]], threshold: float, min_frames: int, eagerness: float
) -> float | None:
    """When the first answer came that would say interruption, if `eagerness` were added."""
    for at, answer in answers:
        if first_detection(eager(answer, eagerness), threshold, min_frames) is not None:
            return at
    return None


def curve(segments: Sequence[Segment], threshold: float, min_frames: int, eagerness: float) -> str:
    """How many of the segments would interrupt, and how soon, at other eagerness."""
    lines = ["", "", "eagerness  interrupt  median ms after onset"]
    for other in sorted({*EAGERNESS, eagerness}):
        found = [
            (at - segment.onset_s) * 1000
            for segment in segments
            if (at := _decided(segment.answers, threshold, min_frames, other - eagerness))
            is not None
        ]
        delay = f"{np.median(found):.0f}" if found else "-"
        lines.append(f"{other:9g} {len(found):10d}  {delay:>21}")
    return "\n".join(lines)


def described(
    recording: Recording,
    segments: Sequence[Segment],
    model: FrameModel,
    threshold: str,
    min_frames: int,
) -> str:
    card = model.card
    lines = [
        f"{recording.name}: {recording.seconds:.2f} s at {recording.file_rate} Hz, channel "
        f"{recording.channel} of {recording.channels}",
        f"{card.name} {card.version}, {threshold}, min_frames {min_frames}",
        "",
    ]
    if not segments:
        return "\n".join([*lines, "nothing stands out from the quiet of this recording"])
    lines.append("   onset      end  highest  decision")
    for segment in segments:
        decision = "none: would not interrupt"
        if segment.decided_s is not None:
            delay_ms = (segment.decided_s - segment.onset_s) * 1000
            decision = f"interruption at {segment.decided_s:.2f} s, {delay_ms:.0f} ms after onset"
        lines.append(
            f"{segment.onset_s:8.2f} {segment.end_s:8.2f} {segment.highest:8.2f}  {decision}"
        )
    cut = sum(segment.decided_s is not None for segment in segments)
    return "\n".join([*lines, "", f"{cut} of {len(segments)} segments would interrupt the agent"])


def draw(recording: Recording, segments: Sequence[Segment], threshold: float, target: Path) -> None:
    """The waveform above, the probabilities below, each decision as a line through both."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise AnalyseError(
            f"a plot needs the package matplotlib ({how_to_install('analyse')})"
        ) from None
    mpl.use("Agg")
    from matplotlib import pyplot

    width = float(np.clip(recording.seconds, 8, 24))
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(width, 5), sharex=True)
    _draw_waveform(upper, recording)
    for segment in segments:
        lower.plot(segment.times_s, segment.probabilities, color="tab:blue", lw=1.2)
        for axes in (upper, lower):
            axes.axvspan(segment.onset_s, segment.end_s, color="tab:orange", alpha=0.12, lw=0)
            if segment.decided_s is not None:
                axes.axvline(segment.decided_s, color="tab:red", lw=1.5)
        if segment.decided_s is not None:
            delay_ms = (segment.decided_s - segment.onset_s) * 1000
            lower.annotate(f" {delay_ms:.0f} ms", (segment.decided_s, 0.04), color="tab:red")
    lower.axhline(threshold, color="black", lw=0.8, ls=":")
    lower.set(ylim=(0, 1.02), ylabel="P(interruption)", xlabel="seconds")
    upper.set(ylabel="samples", title=f"{recording.name}, channel {recording.channel}")
    lower.set_xlim(0, recording.seconds)
    figure.tight_layout()
    try:
        figure.savefig(target, dpi=100)
    except (OSError, ValueError) as error:
        raise AnalyseError(f"{target}: the plot cannot be written: {error}") from None
    finally:
        pyplot.close(figure)


def _draw_waveform(axes: Any, recording: Recording) -> None:
    """Lowest and highest sample of each column: a long recording has more samples than pixels."""
    columns = min(4000, max(1, recording.samples.size))
    edges = np.linspace(0, recording.samples.size, columns, endpoint=False).astype(np.int64)
    if recording.samples.size:
        axes.fill_between(
            edges / recording.rate,
            np.minimum.reduceat(recording.samples, edges) / 32768,
            np.maximum.reduceat(recording.samples, edges) / 32768,
            color="tab:gray",
            lw=0.3,
        )

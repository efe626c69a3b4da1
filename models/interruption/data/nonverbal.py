"""Makes the sounds people and rooms make without words: hums, laughs, breaths, taps, tones.

Each function takes a numpy Generator and returns float32 mono at 16 kHz with a peak of about 1.
Voices are source and filter: glottal pulses through a few resonances, so pitch, length and colour
are free and no recording is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

Audio = NDArray[np.float32]
RATE = 16_000

_NASAL = ((250, 60), (1050, 180), (2250, 250))
_SCHWA = ((560, 90), (1300, 130), (2450, 180))
_OPEN = ((750, 110), (1250, 130), (2600, 180))
_FRONT = ((480, 90), (1900, 150), (2600, 200))


def _unit(x: NDArray[np.float64]) -> Audio:
    return np.asarray(x / (np.abs(x).max() + 1e-9), np.float32)


def _noise(rng: Generator, n: int, low: float, high: float) -> NDArray[np.float64]:
    band = butter(2, [low, min(high, 7800)], "band", fs=RATE, output="sos")
    return np.asarray(sosfilt(band, rng.standard_normal(n)))


def _hump(n: int, attack: float, release: float) -> NDArray[np.float64]:
    """Rises over the share `attack`, falls over `release`, sine shaped."""
    t = np.linspace(0, 1, n)
    up = np.sin(np.clip(t / max(attack, 1e-3), 0, 1) * np.pi / 2)
    return np.asarray(up * np.sin(np.clip((1 - t) / max(release, 1e-3), 0, 1) * np.pi / 2))


def _resonate(
    x: NDArray[np.float64], formants: tuple[tuple[int, int], ...], shift: float
) -> NDArray[np.float64]:
    for hz, width in formants:
        r = np.exp(-np.pi * width / RATE)
        angle = 2 * np.pi * min(hz * shift, 7500) / RATE
        x = lfilter([1 - r], [1, -2 * r * np.cos(angle), r * r], x)
    return x


def voiced(
    rng: Generator,
    seconds: float,
    f0: tuple[float, float],
    formants: tuple[tuple[int, int], ...],
    shift: float = 1.0,
    breath: float = 0.05,
    roughness: float = 0.01,
) -> NDArray[np.float64]:
    """A vowel or hum gliding from f0[0] to f0[1] Hz."""
    n = int(seconds * RATE)
    curve = np.linspace(f0[0], f0[1], n) * (
        1 + rng.normal(0, roughness, n // 200 + 2).repeat(200)[:n]
    )
    phase = np.cumsum(curve / RATE)
    pulses = np.diff(np.floor(phase), prepend=0)
    source = lfilter([1], [1, -0.96], pulses) - 0.02
    source = source + breath * rng.standard_normal(n)
    return _resonate(source, formants, shift)


def hum(rng: Generator) -> Audio:
    """mhm, uh-huh, mm, hm: one to three beats, often with a breath between them."""
    base = float(np.exp(rng.uniform(np.log(85), np.log(300))))
    shift = float(np.clip((base / 130) ** 0.25 * rng.uniform(0.92, 1.08), 0.85, 1.35))
    formants = _NASAL if rng.random() < 0.65 else (_SCHWA if rng.random() < 0.7 else _OPEN)
    breathy = rng.uniform(0.01, 0.15)
    beats = int(rng.choice([1, 2, 2, 2, 3]))
    tune = rng.choice(["rise", "fall", "flat"])
    pieces: list[NDArray[np.float64]] = []
    for beat in range(beats):
        seconds = rng.uniform(0.1, 0.28) if beats > 1 else rng.uniform(0.15, 0.6)
        step = {"rise": 1.12, "fall": 0.9, "flat": 1.0}[str(tune)] ** beat
        ends = (base * step, base * step * rng.uniform(0.85, 1.2))
        voice = voiced(rng, seconds, ends, formants, shift, breathy)
        voice = voice / (np.abs(voice).max() + 1e-9) * _hump(len(voice), 0.25, 0.4)
        if beat:
            gap = int(rng.uniform(0.02, 0.12) * RATE)
            pieces.append(_noise(rng, gap, 300, 3500) * rng.uniform(0.0, 0.08))
        pieces.append(voice * rng.uniform(0.6, 1.0))
    return _unit(np.concatenate(pieces))


def laugh(rng: Generator) -> Audio:
    """Bursts of a vowel or of breath at 4 to 6 a second, falling in pitch and force."""
    base = float(np.exp(rng.uniform(np.log(120), np.log(450))))
    formants = (_OPEN, _SCHWA, _FRONT)[int(rng.integers(3))]
    shift = rng.uniform(0.9, 1.3)
    voiceless = rng.random() < 0.25
    bursts, rate = int(rng.integers(2, 11)), rng.uniform(3.8, 6.5)
    pieces = []
    for burst in range(bursts):
        fall = 0.97**burst
        period = int(RATE / rate * rng.uniform(0.85, 1.15))
        h = int(period * rng.uniform(0.2, 0.45))
        aspirated = _resonate(rng.standard_normal(h), formants, shift)
        aspirated *= rng.uniform(0.05, 0.25) / (np.abs(aspirated).max() + 1e-9) * _hump(h, 0.5, 0.3)
        if voiceless:
            tone = _resonate(rng.standard_normal(period - h), formants, shift)
        else:
            seconds = (period - h) / RATE + 1e-4
            f0 = base * fall * rng.uniform(0.9, 1.15)
            tone = voiced(rng, seconds, (f0, f0 * 0.85), formants, shift, 0.1, 0.03)[: period - h]
        tone = tone / (np.abs(tone).max() + 1e-9) * _hump(len(tone), 0.15, 0.7) * fall**2
        pieces += [aspirated, tone * rng.uniform(0.5, 1)]
    return _unit(np.concatenate(pieces))


def _vowel(rng: Generator, voice: Audio) -> NDArray[np.float64]:
    """Some 0.1 s of what somebody says: of a few loud places the one that is most like itself a
    period of the voice later."""
    n = int(rng.uniform(0.08, 0.16) * RATE)
    steps = voice[: len(voice) // 400 * 400].reshape(-1, 400).astype(np.float64)
    power = (steps**2).mean(axis=1)
    loud = np.flatnonzero(power >= np.percentile(power, 70)) * 400
    best, found = -1.0, np.asarray(voice[:n], np.float64)
    for start in rng.choice(loud, 8):
        piece = np.asarray(voice[start : start + n], np.float64)
        if len(piece) < n:
            continue
        spectrum = np.abs(np.fft.rfft(piece - piece.mean(), 2 * n)) ** 2
        alike = np.fft.irfft(spectrum)
        periodic = float(alike[RATE // 400 : RATE // 70].max() / (alike[0] + 1e-9))
        if periodic > best:
            best, found = periodic, piece
    return found


def laugh_of(rng: Generator, voice: Audio) -> Audio:
    """Somebody's laugh, made of a vowel of theirs: bursts of it at 4 to 6 a second, higher than
    speech, falling in pitch and force, breath between them and at times drawn in at the end.
    `voice`: at least 0.2 s of speech."""
    vowel = _vowel(rng, voice)
    colour = np.abs(np.fft.rfft(vowel, 8192))

    def breathed(n: int) -> NDArray[np.float64]:
        turned = colour * np.exp(2j * np.pi * rng.random(len(colour)))
        x = np.fft.irfft(turned)[:n]
        return np.asarray(x / (np.abs(x).max() + 1e-9))

    voiceless, higher = rng.random() < 0.2, float(np.exp(rng.uniform(0.0, 0.6)))
    bursts, rate = int(rng.integers(2, 11)), rng.uniform(3.8, 6.5)
    pieces = []
    for burst in range(bursts):
        fall = 0.97**burst
        period = int(RATE / rate * rng.uniform(0.85, 1.15))
        h = int(period * rng.uniform(0.2, 0.5))
        pieces.append(breathed(h) * rng.uniform(0.05, 0.3) * _hump(h, 0.5, 0.3))
        if voiceless:
            tone = breathed(period - h)
        else:
            factor = higher * fall * rng.uniform(0.93, 1.1)
            at = np.arange(0, len(vowel) - 1, factor)[: period - h]
            tone = np.interp(at, np.arange(len(vowel)), vowel)
            tone = tone / (np.abs(tone).max() + 1e-9)
        tone = tone * _hump(len(tone), 0.15, 0.7) * fall**2 * rng.uniform(0.5, 1)
        pieces += [tone, np.zeros(max(period - h - len(tone), 0))]
    if rng.random() < 0.3:
        n = int(rng.uniform(0.2, 0.5) * RATE)
        pieces.append(breathed(n) * rng.uniform(0.1, 0.4) * _hump(n, 0.6, 0.2))
    return _unit(np.concatenate(pieces))


def breath(rng: Generator) -> Audio:
    """Breathing in or out, a sigh, a sniff."""
    seconds = rng.choice([rng.uniform(0.15, 0.5), rng.uniform(0.5, 1.8)])
    n = int(seconds * RATE)
    x = _resonate(
        rng.standard_normal(n), (_SCHWA, _OPEN)[int(rng.integers(2))], rng.uniform(0.8, 1.4)
    )
    x = x / np.abs(x).max() + 0.5 * _unit(_noise(rng, n, 500, rng.uniform(2500, 7000)))
    if rng.random() < 0.3:  # a voiced sigh
        f0 = rng.uniform(90, 260)
        tone = voiced(rng, seconds, (f0, f0 * 0.7), _OPEN, 1.0, 0.3)[:n]
        x[: len(tone)] += rng.uniform(0.3, 1.2) * tone / (np.abs(tone).max() + 1e-9)
    return _unit(x * _hump(n, rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.8)))


def throat(rng: Generator) -> Audio:
    """Clearing the throat: one to three rough, noisy strokes."""
    pieces = []
    for _ in range(int(rng.integers(1, 4))):
        seconds = rng.uniform(0.12, 0.45)
        f0 = rng.uniform(60, 160)
        tone = voiced(rng, seconds, (f0, f0 * 0.8), (_SCHWA, _OPEN)[int(rng.integers(2))],
                      rng.uniform(0.85, 1.2), 0.5, 0.15)  # fmt: skip
        rough = 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(20, 45) * np.arange(len(tone)) / RATE)
        pieces.append(tone / (np.abs(tone).max() + 1e-9) * rough * _hump(len(tone), 0.1, 0.5))
        pieces.append(np.zeros(int(rng.uniform(0.02, 0.2) * RATE)))
    return _unit(np.concatenate(pieces))


def taps(rng: Generator) -> Audio:
    """Clicks, a keyboard, knocks, a door, handling noise."""
    low = rng.random() < 0.4
    count, seconds = int(rng.choice([1, 2, 5, 12])), rng.uniform(0.2, 2.0)
    out = np.zeros(int((seconds + 0.6) * RATE))
    for at in np.sort(rng.uniform(0, seconds, count)):
        n = int(rng.uniform(0.05, 0.3 if low else 0.08) * RATE)
        decay = np.exp(-np.arange(n) / RATE / rng.uniform(0.004, 0.06 if low else 0.015))
        sound = rng.standard_normal(n) * decay
        hz = rng.uniform(60, 400) if low else rng.uniform(800, 4500)
        sound = _resonate(sound, ((int(hz), int(hz * 0.3)),), 1.0)
        start = int(at * RATE)
        out[start : start + n] += sound / (np.abs(sound).max() + 1e-9) * rng.uniform(0.3, 1)
    return _unit(out)


def tones(rng: Generator) -> Audio:
    """Beeps, ringing, DTMF, a few notes with overtones."""
    pieces = []
    for _ in range(int(rng.integers(1, 7))):
        n = int(rng.uniform(0.08, 0.6) * RATE)
        t = np.arange(n) / RATE
        x = np.zeros(n)
        for _ in range(int(rng.integers(1, 4))):
            hz = float(np.exp(rng.uniform(np.log(150), np.log(2000))))
            for overtone in range(1, int(rng.integers(2, 6))):
                x += np.sin(2 * np.pi * hz * overtone * t) / overtone**1.5
        pieces += [
            x * _hump(n, 0.03, rng.uniform(0.05, 1)),
            np.zeros(int(rng.uniform(0, 0.3) * RATE)),
        ]
    return _unit(np.concatenate(pieces))


def floor_noise(rng: Generator, n: int) -> Audio:
    """Room tone: noise whose spectrum falls by a random slope, at times with mains hum."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 30)
    spectrum *= hz ** (-rng.uniform(0, 1.1))
    x = np.fft.irfft(spectrum, n)
    x = x / x.std()
    if rng.random() < 0.2:
        base = rng.choice([50, 60]) * 2 * np.pi * np.arange(n) / RATE
        x += rng.uniform(0.1, 1) * (np.sin(base) + 0.5 * np.sin(2 * base) + 0.3 * np.sin(3 * base))
    return np.asarray(x / x.std(), np.float32)

"""The agent's own voice is known again, and nobody else's; what is kept of it is bounded."""

from __future__ import annotations

import wave
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from gateway.engines.interruption import own_voice
from gateway.engines.interruption.own_voice import (
    CALLS_MAX,
    FRAME_S,
    FRAMES_MAX,
    MARKS,
    NOTHING,
    PLAYED_S_MAX,
    RATE,
    SILENCE,
    SILENT_S_MAX,
    TAIL,
    Comparison,
    OwnVoices,
    Speaker,
    Voice,
    corrected,
)
from tests.end_to_end import make_recordings
from tests.end_to_end.make_recordings import made_folder

Samples = npt.NDArray[np.int16]

AGENT, CALLER = "interruption-libri-1034.wav", "interruption-libri-1355.wav"


@cache
def recording(name: str) -> Samples:
    """What one person says, at 16 kHz."""
    make_recordings.make()
    with wave.open(str(made_folder() / name)) as file:
        assert file.getframerate() == RATE
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return np.asarray(samples[int(1.3 * RATE) :], np.int16)


def voice(samples: Samples, sent_at: float = 0.0, rate: int = RATE) -> Voice:
    begins_at, marks = Speaker(rate).say(samples.tobytes(), sent_at)
    earliest = begins_at + FRAME_S * np.arange(len(marks), dtype=np.float64)
    return SILENCE.with_more(marks, earliest, sent_at)


def echo(samples: Samples, late_s: float) -> Samples:
    """Later, through a small loudspeaker and a room, at a tenth of its level."""
    rng = np.random.default_rng(4)
    room = rng.normal(0, 1, RATE // 5) * np.exp(-np.arange(RATE // 5) / (0.04 * RATE))
    room[0] = 6.0
    driven = np.tanh(samples / 6000.0)
    heard = np.convolve(driven, room)[: samples.size]
    heard = np.concatenate((np.zeros(int(late_s * RATE)), heard))
    noise = rng.normal(0, 8, heard.size)
    return np.asarray(heard / np.abs(heard).max() * 1500 + noise, np.int16)


def heard(
    comparison: Comparison, samples: Samples, said: Voice, ends_at: float
) -> npt.NDArray[np.float32]:
    whole = samples.size - samples.size % 400
    return comparison.evidence(samples[:whole], said, ends_at)


@pytest.mark.parametrize("late_s", [0.0, 0.4, 5.0])
def test_the_agents_own_voice_is_known_again_whenever_it_is_played(late_s: float) -> None:
    agent = recording(AGENT)
    back = echo(agent, late_s)

    evidence = heard(Comparison(), back, voice(agent), back.size / RATE)

    once_it_spoke_for_a_second = int((late_s + 1.2) / FRAME_S)
    assert np.median(evidence[once_it_spoke_for_a_second:, 1]) > 1.0


def test_somebody_else_is_not_taken_for_the_agent() -> None:
    caller = recording(CALLER)

    evidence = heard(Comparison(), caller, voice(recording(AGENT)), caller.size / RATE)

    assert np.median(evidence[:, 1]) < -1.0


def test_what_was_not_sent_yet_explains_nothing() -> None:
    agent = recording(AGENT)

    evidence = heard(Comparison(), agent, voice(agent, sent_at=100.0), agent.size / RATE)

    assert (evidence[:, 0] == NOTHING).all()


def after_the_end(comparison: Comparison, said: Voice, spoken_s: float) -> list[float]:
    """Evidence at the end of the agent's voice and 0.3, 0.6 and 1 s later: a room rings on."""
    back = np.concatenate((echo(recording(AGENT), 0.0), np.zeros(RATE, np.int16)))
    evidence = heard(comparison, back, said, back.size / RATE)
    at = int(spoken_s / FRAME_S)
    return [float(evidence[min(at + late, len(evidence) - 1), 1]) for late in (-2, 12, 24, 39)]


def test_for_a_moment_after_its_last_word_it_is_still_the_agent() -> None:
    agent = recording(AGENT)

    end, soon, later, gone = after_the_end(Comparison(), voice(agent), agent.size / RATE)

    assert end > soon > later > 0
    assert gone < 0


def test_so_it_is_where_the_next_utterance_was_sent_already() -> None:
    agent = recording(AGENT)
    begins_at, marks = Speaker(RATE).say(recording(CALLER).tobytes(), 1.0)
    earliest = begins_at + FRAME_S * np.arange(len(marks), dtype=np.float64)
    both = voice(agent).with_more(marks, earliest, 1.0)

    end, soon, later, _ = after_the_end(Comparison(), both, agent.size / RATE)

    assert end > soon > later > 0


def test_silence_after_a_voice_explains_nothing_by_itself() -> None:
    agent, caller = recording(AGENT)[: 2 * RATE], recording(CALLER)
    comparison = Comparison()

    first = heard(comparison, caller[: 4 * RATE], voice(agent), 4.0)

    assert np.median(first[:, 1]) < -1.0


def test_windows_of_100_ms_are_as_good_as_one() -> None:
    agent = recording(AGENT)
    said, back = voice(agent), echo(agent, 0.3)
    back = back[: back.size // 1600 * 1600]
    parts, comparison = [], Comparison()
    for start in range(0, back.size, 1600):
        part = back[start : start + 1600]
        parts.append(comparison.evidence(part, said, (start + 1600) / RATE))

    whole = Comparison().evidence(back, said, back.size / RATE)

    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-3)


def test_a_voice_that_comes_in_pieces_is_as_good_as_one_that_is_there() -> None:
    agent = recording(AGENT)
    back = echo(agent, 0.0)
    back = back[: back.size // 1600 * 1600]
    comparison, speaker, said, parts = Comparison(), Speaker(RATE), SILENCE, []
    for start in range(0, back.size, 1600):
        begins_at, marks = speaker.say(agent[start : start + 1600].tobytes(), start / RATE)
        earliest = begins_at + FRAME_S * np.arange(len(marks), dtype=np.float64)
        said = said.with_more(marks, earliest, start / RATE)
        part = back[start : start + 1600]
        parts.append(comparison.evidence(part, said, (start + 1600) / RATE))

    whole = Comparison().evidence(back, voice(agent), back.size / RATE)

    assert np.concatenate(parts)[-1] == pytest.approx(whole[-1], abs=0.5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
def test_the_rate_at_which_it_was_sent_does_not_matter(rate: int) -> None:
    agent = recording(AGENT)
    at = np.arange(0, agent.size - 1, RATE / rate)
    sent = np.interp(at, np.arange(agent.size), agent).astype(np.int16)
    back = echo(agent, 0.3)

    evidence = heard(Comparison(), back, voice(sent, rate=rate), back.size / RATE)

    assert np.median(evidence[60:, 1]) > 0.5


def test_marks_do_not_depend_on_how_a_voice_is_cut() -> None:
    agent = recording(AGENT)[:32_000]
    whole = Speaker(RATE).say(agent.tobytes(), 0.0)[1]
    speaker, parts = Speaker(RATE), []
    for start in range(0, agent.size, 700):
        parts.append(speaker.say(agent[start : start + 700].tobytes(), 0.0)[1])

    assert (np.concatenate(parts) == whole).all()


def test_what_is_sent_ahead_is_not_played_before_what_came_before_it() -> None:
    speaker, samples = Speaker(RATE), bytes(2 * RATE)

    first, marks = speaker.say(samples, 10.0)
    second, _ = speaker.say(samples, 10.1)
    third, _ = speaker.say(samples, 20.0)

    assert first == pytest.approx(10.0 - FRAME_S * TAIL)
    assert second == pytest.approx(first + FRAME_S * len(marks))
    assert third == 20.0


def test_an_utterance_that_begins_with_less_than_a_frame_is_like_any_other() -> None:
    samples = recording(AGENT)[: RATE // 2].tobytes()
    whole_at, whole = Speaker(RATE).say(samples, 10.0)
    speaker = Speaker(RATE)

    _, nothing = speaker.say(samples[:640], 10.0)  # 20 ms
    begins_at, marks = speaker.say(samples[640:], 10.0)

    assert len(nothing) == 0
    assert begins_at == pytest.approx(whole_at)
    assert (marks == whole).all()


def marks_of(frames: int) -> npt.NDArray[np.int8]:
    return np.ones((frames, MARKS), np.int8)


def test_what_can_no_longer_be_played_is_forgotten() -> None:
    old = SILENCE.with_more(marks_of(40), np.linspace(0, 1, 40), 0.0)

    later = old.with_more(marks_of(4), np.full(4, 2.0 + PLAYED_S_MAX), 2.0 + PLAYED_S_MAX)

    assert later.first == 40
    assert len(later.marks) == len(later.earliest) == 4 + TAIL


def test_of_one_call_no_more_than_so_much_is_kept() -> None:
    ahead = SILENCE.with_more(marks_of(FRAMES_MAX + 7), np.zeros(FRAMES_MAX + 7), 0.0)

    assert ahead.first == 7 + TAIL
    assert len(ahead.marks) == FRAMES_MAX


def test_calls_are_bounded_and_end() -> None:
    voices = OwnVoices()
    for number in range(CALLS_MAX + 1):
        voices.add(f"call-{number}", marks_of(1), np.zeros(1), 0.0)
    assert voices.of("call-0") is None
    assert voices.of("call-1") is not None

    voices.add("another", marks_of(1), np.zeros(1), SILENT_S_MAX + 1)

    assert voices.of("call-1") is None
    assert voices.of("another") is not None


def test_where_nothing_can_have_been_played_the_model_is_right() -> None:
    probabilities = np.array([0.0, 0.3, 0.9, 1.0], np.float32)
    evidence = np.full((4, 3), NOTHING, np.float32)

    assert (corrected(probabilities, evidence) == probabilities).all()


def test_the_agents_own_voice_is_no_caller_and_a_caller_is_one() -> None:
    probabilities = np.full(2, 0.7, np.float32)
    evidence = np.array([[3.0, 5.0, 1.5], [-6.0, -7.0, -1.0]], np.float32)

    own, caller = corrected(probabilities, evidence)

    assert own < 0.1
    assert caller > 0.5


def test_even_the_surest_opinion_does_not_outweigh_the_agents_own_voice() -> None:
    sure, evidence = np.ones(1, np.float32), np.array([[5.0, 25.0, 1.5]], np.float32)

    assert corrected(sure, evidence) < 0.5


def test_while_it_may_be_the_agent_a_moment_of_doubt_is_not_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = voice(recording(AGENT))
    samples = np.zeros(10 * 400, np.int16)
    sure = np.full((10, 3), 5.0, np.float32)
    sure[4:7, 0] = -8.0
    monkeypatch.setattr(Comparison, "evidence", lambda *given: sure)
    monkeypatch.setattr(own_voice, "corrected", lambda p, e: np.where(e[:, 0] > 0, 0.0, p))

    found = Comparison().judged(np.full(10, 0.9, np.float32), samples, said, 1.0)

    assert (found == 0).all()


def test_a_caller_without_echo_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = voice(recording(AGENT))
    nobody = np.full((4, 3), -6.0, np.float32)
    monkeypatch.setattr(Comparison, "evidence", lambda *given: nobody)
    given = np.array([0.1, 0.2, 0.8, 0.9], np.float32)

    found = Comparison().judged(given, np.zeros(1600, np.int16), said, 1.0)

    assert found == pytest.approx(corrected(given, nobody))

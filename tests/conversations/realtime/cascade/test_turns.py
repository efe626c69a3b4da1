from __future__ import annotations

from gateway.conversations.realtime.cascade.turns import Change, Silences, SpeechGate

VAD = Silences()
ASKS = Silences(end_ms=4000.0, asks=True)


def played(
    gate: SpeechGate, start: float, seconds: float, speech: float, how: Silences = VAD
) -> list[Change]:
    found = []
    for i in range(round(seconds / 0.032)):
        change = gate.hear(start + 32.0 * (i + 1), speech, how)
        if change is not None:
            found.append(change)
    return found


def test_an_utterance_begins_with_speech_and_ends_with_silence() -> None:
    gate = SpeechGate()
    assert played(gate, 0.0, 1.0, 0.0) == []
    assert played(gate, 992.0, 1.0, 0.9) == [Change.BEGAN]
    assert gate.open
    assert 900 < gate.began_ms < 1100
    assert played(gate, 1984.0, 0.52, 0.0) == [Change.SILENT]
    assert gate.silent_since_ms == 1984.0


def test_a_dip_below_the_threshold_is_no_silence() -> None:
    gate = SpeechGate()
    played(gate, 0.0, 0.5, 0.9)
    assert played(gate, 480.0, 1.0, 0.4) == []
    assert gate.silent_since_ms is None


def test_a_pause_is_asked_about_again_while_it_lasts() -> None:
    gate = SpeechGate()
    played(gate, 0.0, 0.5, 0.9, ASKS)
    assert played(gate, 480.0, 1.2, 0.0, ASKS) == [Change.PAUSED] * 3
    assert played(gate, 1664.0, 0.1, 0.9, ASKS) == []
    assert played(gate, 1760.0, 0.3, 0.0, ASKS) == [Change.PAUSED]


def test_a_detector_that_was_off_has_heard_no_long_speech() -> None:
    gate = SpeechGate()
    gate.hear(32.0, 0.9, VAD)
    assert gate.hear(60_000.0, 0.9, VAD) is None

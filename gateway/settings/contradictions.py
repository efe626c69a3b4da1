"""Bounds of which one takes the effect from the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from gateway.settings.mistake import Mistake
from gateway.settings.section import Section


class _Pair(NamedTuple):
    """`shorter` should not exceed `longer`; `hence` says what comes of it if it does. With `meant`
    it is only told where `shorter` was set: its default is generous, and does no harm."""

    shorter: str
    longer: str
    hence: str
    meant: bool = False


_PAIRS: Final = (
    _Pair(
        "server.drain_delay_s",
        "server.shutdown_grace_s",
        "new connections are taken until the server ends, and are cut",
    ),
    _Pair(
        "limits.sessions_per_key",
        "limits.sessions",
        "one key may take all places",
        meant=True,
    ),
    _Pair("limits.session_idle_s", "limits.session_s_max", "it has no effect", meant=True),
    _Pair("stt.idle_s", "limits.session_s_max", "it has no effect", meant=True),
    _Pair(
        "chat.first_token_timeout_s",
        "chat.total_timeout_s",
        "no other deployment is tried for a silent one",
    ),
    _Pair("chat.idle_timeout_s", "chat.total_timeout_s", "it has no effect", meant=True),
    _Pair("chat.queue_timeout_s", "chat.total_timeout_s", "it has no effect", meant=True),
    _Pair("tts.first_audio_timeout_s", "tts.last_audio_timeout_s", "the last voice has less time"),
    _Pair("tts.hole_timeout_s", "tts.last_audio_timeout_s", "it has no effect", meant=True),
)


def contradictions(sections: Mapping[str, Section]) -> Iterator[Mistake]:
    """A warning for each pair of bounds in `sections` (by their names) that contradict."""
    for pair in _PAIRS:
        (section, option), (other, longer) = (one.split(".") for one in (pair.shorter, pair.longer))
        mine, theirs = sections[section], sections[other]
        value, most = getattr(mine, option), getattr(theirs, longer)
        is_set = option in mine.model_fields_set
        if not pair.meant:
            is_set = is_set or longer in theirs.model_fields_set
        if is_set and value > most:
            yield Mistake(
                (section, option),
                f"{value:g} is more than {pair.longer} ({most:g}): {pair.hence}",
                fatal=False,
            )

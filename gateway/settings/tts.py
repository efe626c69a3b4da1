"""What an operator may set for /tts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from gateway.settings.section import Section


class TtsCacheConfig(Section):
    """Keeps the audio of texts that are said again and again, such as greetings."""

    enabled: bool = False
    """Whether it is used at all."""
    memory_mb: int = Field(64, ge=1, le=65536)
    """Audio kept in memory; what was not used for longest goes first."""
    directory: Path | None = None
    """Where audio is also kept over a restart. Default: memory alone."""
    disk_mb: int = Field(1024, ge=1)
    """Audio kept in `directory`."""
    text_chars: int = Field(400, ge=1, le=5000)
    """Longer texts are not kept."""


class TtsHedgeConfig(Section):
    """A second provider is asked while the first has sent no audio; the first to speak is heard,
    the other is cancelled (its provider may bill what it had begun)."""

    enabled: bool = False
    """True switches it on."""
    after_s: float | None = Field(None, gt=0)
    """Time without audio after which the next provider is asked. Default: what 95 % of the recent
    first audio of this deployment stayed under, but at least 0.3 s, once 20 are known; until then
    nobody is asked twice."""
    share_max: float = Field(0.25, gt=0, le=1)
    """Hedges per utterance on average; when everything is slow, asking twice makes it slower."""


class TtsConfig(Section):
    """Time-outs, failover and connections of `/tts`."""

    default_model: str | None = None
    """Model of a client that names none, `provider/model`."""
    connect_timeout_s: float = Field(3.0, gt=0)
    """To open a connection to a provider."""
    first_audio_timeout_s: float = Field(4.0, gt=0)
    """From the first text to the first audio of one deployment; then the next is tried."""
    last_audio_timeout_s: float = Field(30.0, gt=0)
    """The same, and for holes, when no other deployment is left (a cold model takes long)."""
    hole_timeout_s: float = Field(2.0, gt=0)
    """Silence of a deployment in the middle of a text; then the next goes on with the first
    sentence that was not fully spoken. While the listener still has audio to play, it waits
    longer, at most `last_audio_timeout_s`."""
    rounds: int = Field(2, ge=1, le=10)
    """How often the deployments of a model are gone through before the client is told: those that
    failed for a passing reason are asked again after a pause of 0.25 s, then 0.5 s, 1 s, 2 s."""
    hedge: TtsHedgeConfig = TtsHedgeConfig()
    keepalive_s: float = Field(3.0, gt=0, le=9)
    """A harmless message is sent when nothing else was for so long: the clients give up after
    10 s."""
    blocked_timeout_s: float = Field(5.0, gt=0)
    """A client that reads nothing for so long has been interrupted: its speech is cancelled."""
    spare_lines: int = Field(8, ge=0, le=1000)
    """Sockets opened ahead of need, at most, for each provider and voice."""
    match_loudness: bool = True
    """Whether the voice that takes over in the middle of an utterance is made as loud as the one
    before."""
    cache: TtsCacheConfig = TtsCacheConfig()

    @model_validator(mode="before")
    @classmethod
    def _hedge_after_s_is_a_hedge(cls, given: Any) -> Any:
        """`hedge_after_s`, of before `hedge`, had no bound on its share."""
        if not isinstance(given, dict) or "hedge_after_s" not in given or "hedge" in given:
            return given
        rest = {name: value for name, value in given.items() if name != "hedge_after_s"}
        after_s = given["hedge_after_s"]
        if after_s is None:
            return rest
        return {**rest, "hedge": {"enabled": True, "after_s": after_s, "share_max": 1.0}}

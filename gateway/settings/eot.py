"""What an operator may set for /eot and /eot/multi."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from gateway.settings.section import Section

Network = IPv4Network | IPv6Network

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

Threshold = Annotated[float, Field(gt=0, lt=1)]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class TurnTextConfig(Section):
    """The text model of /eot/multi. Without one the answer is "no prediction"."""

    model: str | None = None
    """A folder with `tokenizer.json`, `tokenizer_config.json` and the ONNX file, or the name of a
    repository on the Hugging Face hub that is fetched at start (needs the extra `turn-text`).
    Its licence is yours to accept."""
    revision: str | None = None
    """Branch, tag or commit of the hub repository."""
    file: str = "onnx/model_q8.onnx"
    """The ONNX file inside the folder or repository."""
    threshold: Threshold | None = None
    """Threshold told to clients for every language. Default: those of the model's
    `languages.json`."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of ONNX Runtime for one prediction."""


class EotConfig(Section):
    """The end-of-turn model and how it is run."""

    enabled: bool = True
    """Whether /eot is served. Where it is not, clients use the detector they carry."""
    model: Path | None = None
    """Path of an ONNX file with the interface of models/turn/README.md, for example another Smart
    Turn. Default: the one that `gateway models fetch smart-turn` has fetched."""
    threshold: Threshold | None = None
    """Default threshold told to clients. Default: the model's own."""
    thresholds: dict[Language, Threshold] = Field(default_factory=dict)
    """Thresholds per language ("en", "de"), over the model's own."""
    backchannel: bool = True
    """Whether the interruption model fills in `backchannel_probability`: how likely the newest
    words are no claim to the floor."""
    backchannel_threshold: Threshold | None = None
    """Backchannel threshold told to clients. Default: none, which keeps it without effect: clients
    take it for the moment at which the agent could say "mhm", which nothing here predicts."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of ONNX Runtime for one batch."""
    batch: int = Field(1, ge=1, le=256)
    """Most predictions in one run. On a CPU two together take as long as one after the other, and
    the first would wait for the second."""
    text: TurnTextConfig = TurnTextConfig()
    """The text model of /eot/multi."""
    anonymous_networks: tuple[Network, ...] = LOOPBACK
    """Networks from which /eot/multi is answered without a token: LiveKit's plugin sends none. A
    reverse proxy on this machine makes all its callers look local: empty the list behind one."""

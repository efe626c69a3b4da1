"""What an operator may set for /bargein."""

from __future__ import annotations

import base64
import binascii
import importlib.util
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator

from gateway.settings.extras import how_to_install
from gateway.settings.section import Section

EAGERNESS_MAX: Final = 4.0
"""Beyond it the model's opinion no longer counts."""

MODELS_MAX: Final = 4
"""Versions beside the main one; each is loaded, and has a thread."""

SECRET_BYTES: Final = 32
"""Of AES-256."""

ALL_KEYS: Final = "*"

Eagerness = Annotated[float, Field(ge=-EAGERNESS_MAX, le=EAGERNESS_MAX)]


class LearnConfig(Section):
    """Keeps, of calls of `keys`, what the interruption model was unsure of or wrong about, for
    `gateway bargein learn`: at most 3 s of the caller's voice each, encrypted. Ask your callers
    first; see deploy/learning.md."""

    keys: list[str] = Field(default_factory=list)
    """API keys whose calls may be learnt from; `*` is for all. Default: none, and nothing is
    kept."""
    secret: SecretStr | None = None
    """32 bytes in base64 (`openssl rand -base64 32`), from the environment or a file:
    ${PARLEY_LEARN_SECRET} or ${file:PATH}. Everything is encrypted with it (AES-256-GCM); without
    it nothing is kept, and what was kept cannot be read. Needs the extra `learn`."""
    folder: Path | None = None
    """Default: parley/bargein under $XDG_STATE_HOME (~/.local/state)."""
    windows_max: int = Field(5000, ge=1, le=100_000)
    """Most windows that are kept; the oldest go first."""
    bytes_max: int = Field(500_000_000, ge=1_000_000)
    """Most bytes that they may take."""
    keep_days: int = Field(30, ge=1)
    """Older ones are deleted."""
    margin: float = Field(1.5, ge=0, le=10)
    """A window is disputed if the highest probability is so near the threshold, in log odds (1.5:
    from .18 to .82 at a threshold of .5), or if what followed says otherwise."""
    control_share: float = Field(0.2, ge=0, le=1)
    """Share of all other windows that are kept too, so that a new version is compared on what is
    usual."""

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None or not secret.get_secret_value():
            return None  # ${VAR:-} of a variable that is not set
        if learn_key(secret) is None:
            raise ValueError("expected 32 bytes in base64; make them by `openssl rand -base64 32`")
        if importlib.util.find_spec("cryptography") is None:
            raise ValueError(f"needs the package cryptography ({how_to_install('learn')})")
        return secret

    def wants(self, key: str) -> bool:
        """Whether calls of this API key may be learnt from."""
        return self.secret is not None and (key in self.keys or ALL_KEYS in self.keys)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self.secret is not None and bool(self.keys)


def learn_key(secret: SecretStr) -> bytes | None:
    """The 32 bytes, None if they are none. Both alphabets of base64 are read."""
    text = secret.get_secret_value().strip().replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == SECRET_BYTES else None


class BargeinConfig(Section):
    """The interruption model and how it is run."""

    model: Path | None = None
    """Path of an ONNX file with the interface of models/interruption/README.md.
    Default: the one that ships with Parley."""
    models: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict, max_length=MODELS_MAX
    )
    """Other versions: path of a file -> the share of calls that it serves; the rest has `model`. A
    path without a folder lies where `gateway bargein learn` publishes. The same call has the same
    version at every process; a reload takes a version back."""
    learn: LearnConfig = LearnConfig()
    threshold: float | None = Field(None, gt=0, lt=1)
    """Default threshold told to clients. Default: the model's own."""
    eagerness: Eagerness = 0.0
    """How readily the agent yields, whatever threshold a client asks for: above 0 sooner and more
    often, below 0 later and to fewer sounds. 1 makes odds of 1:1 out of 1:2.7. The curve of what it
    costs is in models/interruption/README.md, and `gateway bargein analyse` draws it of your own
    recordings."""
    eagerness_by_key: dict[str, Eagerness] = Field(default_factory=dict)
    """API key -> its own `eagerness`."""
    own_voice: bool = True
    """Know the agent's own voice again where it comes back from a caller's loudspeaker, by what
    /tts sends for the same job or room: 16 bytes are kept for each 25 ms, of the last 30 s, in
    memory, and no sound can be made of them. Processes that share a port share them too, and
    machines that share `quota.redis_url` tell them one another by it (nothing is stored there)."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of ONNX Runtime for one batch."""
    batch: int = Field(32, ge=1, le=1024)
    """Most windows in one run of the model."""

    @field_validator("models")
    @classmethod
    def _shares_of_one(cls, models: dict[str, float]) -> dict[str, float]:
        if sum(models.values()) > 1 + 1e-9:
            raise ValueError("expected shares that come to no more than 1 together")
        return models

    def eagerness_of(self, key: str) -> float:
        """For the calls of an API key."""
        return self.eagerness_by_key.get(key, self.eagerness)

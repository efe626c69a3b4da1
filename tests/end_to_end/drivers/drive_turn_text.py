"""Reads conversations as LiveKit's text plugin does in an agent's own process.

Its own runner, with model and tokenizer of a folder in place of those it would have fetched.
Standard input: a JSON list of conversations, each a list of {"role", "content"}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from events import say


def main() -> None:
    import onnxruntime
    from livekit.plugins.turn_detector.base import MAX_HISTORY_TURNS
    from livekit.plugins.turn_detector.multilingual import _EUORunnerMultilingual
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    runner = _EUORunnerMultilingual()
    runner._session = onnxruntime.InferenceSession(str(folder / "m.onnx"))
    runner._tokenizer = AutoTokenizer.from_pretrained(str(folder), truncation_side="left")
    for conversation in json.load(sys.stdin):
        # predict_end_of_turn gives it the newest turns
        asked = json.dumps({"chat_ctx": conversation[-MAX_HISTORY_TURNS:]})
        said = json.loads(runner.run(asked.encode()))
        say("read", text=said["input"], probability=said["eou_probability"])


main()

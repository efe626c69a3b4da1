"""Asks the end of a turn with MultilingualModel of livekit-plugins-turn-detector, by HTTP.

The plugin wants a job around it; of that it reads a few names.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace

from events import error_fields, http_session, run, say


async def main() -> None:
    from livekit.agents import LanguageCode, job, llm

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="+", help="what assistant and user say, in turns")
    parser.add_argument("--language", default="en-US")
    options = parser.parse_args()
    executor = SimpleNamespace()  # there is none: an inference at home would fail
    context = SimpleNamespace(
        job=SimpleNamespace(id="AJ_test"),
        worker_id="AW_test",
        proc=SimpleNamespace(http_proxy=None),
        inference_executor=executor,
    )
    job._JobContextVar.set(context)
    from livekit.plugins.turn_detector.multilingual import MultilingualModel

    chat = llm.ChatContext.empty()
    chat.add_message(role="system", content="Be brief.")
    for i, words in enumerate(options.words):
        chat.add_message(role="user" if i % 2 else "assistant", content=words)
    async with http_session():
        model = MultilingualModel()
        language = LanguageCode(options.language)
        try:
            say("threshold", threshold=await model.unlikely_threshold(language))
            say("supported", supported=await model.supports_language(language))
            say("prediction", probability=await model.predict_end_of_turn(chat))
        except Exception as error:
            say("failed", **error_fields(error))
        say("done")


run(main)

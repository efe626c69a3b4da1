"""Asks LiveKit's DecisionModel three questions, twice; tells what it made of the answers."""

from __future__ import annotations

import asyncio
import sys

from events import error_fields, say
from livekit.agents import inference, llm, utils

DECISIONS = {
    "handoff": llm.Probability("The caller wants a person."),
    "mood": llm.Choice("How is the caller?", {"calm": "at ease", "angry": "not at ease"}),
    "urgency": llm.Score("How urgent is it?", ["not", "somewhat", "very"]),
}


async def main(model: str) -> None:
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="Let me talk to a person, now!")
    async with utils.http_context.open():
        for _ in range(2):
            try:
                found = await inference.DecisionModel(model).evaluate(
                    input=context, decisions=DECISIONS
                )
            except Exception as error:
                say("error", **error_fields(error))
                return
            say(
                "decided",
                results={name: one.model_dump() for name, one in found.results.items()},
                errors=found.errors,
                tokens=[found.input_tokens, found.output_tokens],
            )


asyncio.run(main(sys.argv[1]))

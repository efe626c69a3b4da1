"""LangChain's ChatOpenAI against the server: OPENAI_BASE_URL and OPENAI_API_KEY say where."""

from __future__ import annotations

import sys

from events import error_fields, run, say
from langchain_openai import ChatOpenAI


async def main() -> None:
    model, asked = sys.argv[1], sys.argv[2]
    chat = ChatOpenAI(model=model, max_retries=0, timeout=60)
    try:
        whole = await chat.ainvoke(asked)
        say("whole", text=whole.content, usage=whole.usage_metadata)
        text = ""
        async for chunk in chat.astream(asked):
            text += chunk.content
        say("streamed", text=text)

        def get_time(city: str) -> str:
            """The time of day."""
            return city

        called = await chat.bind_tools([get_time]).ainvoke("say: tools")
        say("called", calls=called.tool_calls)
    except Exception as error:
        say("failed", **error_fields(error))


run(main)

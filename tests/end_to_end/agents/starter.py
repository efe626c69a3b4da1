"""An agent as LiveKit's quickstart has it, with its usual models: nothing here knows of Parley."""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, inference

server = AgentServer()


@server.rtc_session()  # type: ignore[untyped-decorator]
async def entrypoint(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(
        stt=inference.STT("deepgram/nova-3", language="multi"),
        llm=inference.LLM("openai/gpt-4.1-mini"),
        tts=inference.TTS("cartesia/sonic-3", voice="9626c31c-bec5-4cca-baa8-f8ba9e84c8bc"),
    )
    agent = Agent(instructions="You tell the user long stories about whatever they mention.")
    await session.start(agent, room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)

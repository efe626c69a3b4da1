"""What may be said on /eot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.conversations.eot.protocol import read_message
from gateway.upstreams.errors import Failure
from tests.conversations.hostile import assert_is_a_clear_refusal

MESSAGES = [
    pb.ClientMessage(session_create=pb.SessionCreate()).SerializeToString(),
    pb.ClientMessage(input_audio=pb.InputAudio(audio=b"1234")).SerializeToString(),
    pb.ClientMessage(inference_start=pb.InferenceStart(request_id="r")).SerializeToString(),
    pb.ClientMessage(session_flush=pb.SessionFlush()).SerializeToString(),
    pb.ClientMessage(session_close=pb.SessionClose()).SerializeToString(),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(MESSAGES)) + draw(st.binary(max_size=12)))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(st.binary(max_size=64) | damaged())
def test_whatever_comes_is_a_message_or_a_clear_refusal(data: bytes) -> None:
    message = read_message(data)
    if isinstance(message, Failure):
        assert_is_a_clear_refusal(message)

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers.google.realtime import GoogleLine, GoogleRealtime
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.realtime import ClientEvent, LineFailed, ServerEvent

MANUAL = {"audio": {"input": {"turn_detection": None}}}
TOOL = {"type": "function", "name": "weather", "description": "d", "parameters": {"x": 1}}
USAGE = {
    "promptTokenCount": 30,
    "responseTokenCount": 20,
    "thoughtsTokenCount": 5,
    "cachedContentTokenCount": 4,
    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}, {"modality": "TEXT"}],
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 18}],
}


class Talk:
    """A line, and what it says to both sides."""

    def __init__(self, *, ready: bool = True, session: dict[str, Any] | None = None) -> None:
        account = Account(
            "google", "google", "https://generativelanguage.googleapis.com/v1beta/openai",
            "AIza-key", settings=ProviderSettings(),
        )  # fmt: skip
        self.line: GoogleLine = GoogleRealtime(account).line(Attempt("google", "gemini-x"))
        self.sent: list[Any] = []
        self.told: list[Any] = []
        if session is not None:
            self.says("session.update", session=session)
        if ready:
            self.says("session.update", session={})
            self.hears(setupComplete={})
            self.clear()

    def clear(self) -> None:
        self.sent, self.told = [], []

    def _take(self, said: Any) -> None:
        for one in said:
            if isinstance(one, str):
                self.sent.append(orjson.loads(one))
            else:
                assert isinstance(one, ServerEvent), one
                self.told.append(one.body)

    def says(self, kind: str, **fields: Any) -> None:
        body = {"type": kind, **fields}
        self._take(self.line.encode(ClientEvent(kind, body, orjson.dumps(body).decode())))

    def hears(self, **message: Any) -> None:
        self._take(self.line.decode(orjson.dumps(message)))

    def speaks(self, text: str = "hi ", audio: str = "AAAA") -> None:
        part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio}}
        self.hears(serverContent={"modelTurn": {"parts": [part]}})
        self.hears(serverContent={"outputTranscription": {"text": text}})

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.told]

    def of(self, kind: str) -> Any:
        return next(one for one in self.told if one["type"] == kind)


def message(text: str = "hello", role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def test_the_key_is_in_a_header_and_the_path_is_the_live_apis() -> None:
    dial = Talk().line.dial()
    assert isinstance(dial, Dial)
    assert dial.url == (
        "wss://generativelanguage.googleapis.com/"
        "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    )
    assert dial.headers == {"x-goog-api-key": "AIza-key"}


def test_the_line_greets_by_itself() -> None:
    (created,) = Talk(ready=False).line.greeting()
    assert (created.type, created.body["session"]["model"]) == ("session.created", "gemini-x")


def test_the_first_update_sets_the_session_up() -> None:
    talk = Talk(ready=False)
    talk.says("session.update", session={
        "instructions": "be brief", "tools": [TOOL, {"type": "mcp"}], "max_output_tokens": 99,
        "audio": {"output": {"voice": "Kore"}, "input": {"turn_detection": None}},
    })  # fmt: skip
    (sent,) = talk.sent
    setup = sent["setup"]
    assert setup["model"] == "models/gemini-x"
    assert setup["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert setup["generationConfig"]["maxOutputTokens"] == 99
    voice = setup["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]
    assert voice == {"voiceName": "Kore"}
    (declared,) = setup["tools"][0]["functionDeclarations"]
    assert declared == {"name": "weather", "description": "d", "behavior": "BLOCKING",
                        "parametersJsonSchema": {"x": 1}}  # fmt: skip
    assert setup["realtimeInputConfig"] == {"automaticActivityDetection": {"disabled": True}}
    assert talk.types == ["session.updated"]


def test_a_voice_of_openais_is_none_of_googles() -> None:
    talk = Talk(ready=False, session={"audio": {"output": {"voice": "marin"}}})
    assert "Puck" in str(talk.sent)


def test_nothing_is_sent_before_the_setup_is_complete() -> None:
    talk = Talk(ready=False)
    talk.says("input_audio_buffer.append", audio="AAAA")
    assert [next(iter(one)) for one in talk.sent] == ["setup"]
    talk.hears(setupComplete={})
    assert talk.sent[1]["realtimeInput"]["audio"] == {
        "data": "AAAA", "mimeType": "audio/pcm;rate=24000",
    }  # fmt: skip


def test_later_instructions_and_tools_are_updates_of_the_context() -> None:
    talk = Talk()
    talk.says("session.update", session={"instructions": "be kind", "tools": [TOOL]})
    (update,) = talk.sent
    assert update["contextUpdate"]["systemInstruction"] == {"parts": [{"text": "be kind"}]}
    assert update["contextUpdate"]["tools"]["tools"][0]["functionDeclarations"]
    talk.clear()
    talk.says("session.update", session={"audio": {"output": {"voice": "Kore"}}})
    assert talk.types == ["error", "session.updated"]
    assert talk.sent == []


def test_a_question_in_text_is_asked_with_response_create() -> None:
    talk = Talk()
    talk.says("conversation.item.create", item=message(), previous_item_id="root")
    assert talk.types == ["conversation.item.added", "conversation.item.done"]
    assert talk.told[0]["previous_item_id"] is None
    talk.says("response.create", response={"metadata": {"client_event_id": "e"}})
    assert talk.sent == [
        {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "hello"}]}],
                           "turnComplete": False}},
        {"clientContent": {"turnComplete": True}},
    ]  # fmt: skip
    assert talk.of("response.created")["response"]["metadata"] == {"client_event_id": "e"}
    talk.clear()
    talk.says("response.create", event_id="again")
    error = talk.told[0]["error"]
    assert error["code"] == "conversation_already_has_active_response"
    assert (error["event_id"], talk.sent) == ("again", [])
    talk.speaks()
    assert "response.created" not in talk.types


def test_a_response_is_not_told_before_the_setup_is_complete() -> None:
    talk = Talk(ready=False)
    talk.says("response.create")
    assert talk.types == []
    talk.hears(setupComplete={})
    assert talk.types == ["response.created"]
    assert list(talk.sent[1]) == ["clientContent"]


def test_what_the_assistant_has_said_before_is_the_models() -> None:
    talk = Talk()
    talk.says("conversation.item.create", item=message("earlier", "assistant"))
    assert talk.sent[0]["clientContent"]["turns"][0]["role"] == "model"
    talk.clear()
    talk.says("response.create")  # nobody has asked anything
    assert talk.sent[0]["clientContent"]["turns"][0]["parts"] == [{"text": "."}]
    talk.hears(serverContent={"turnComplete": True})
    talk.clear()
    talk.says("response.create", response={"instructions": "greet"})
    assert talk.sent[0]["clientContent"]["turns"][0]["parts"] == [{"text": "greet"}]


def test_an_answer_is_a_response_with_a_message() -> None:
    talk = Talk()
    talk.speaks("It ")
    talk.speaks("is.")
    talk.hears(serverContent={"generationComplete": True}, usageMetadata=USAGE)
    talk.hears(serverContent={"turnComplete": True})
    assert talk.types == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    done = talk.of("response.done")["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"][0]["transcript"] == "It is."
    assert done["usage"] == {
        "total_tokens": 55,
        "input_tokens": 30,
        "output_tokens": 25,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 10, "cached_tokens": 4,
                                "cached_tokens_details": {"audio_tokens": 0}},
        "output_token_details": {"text_tokens": 7, "audio_tokens": 18},
    }  # fmt: skip


def test_tokens_that_come_late_are_told_with_the_next_response() -> None:
    talk = Talk()
    talk.speaks()
    talk.hears(serverContent={"generationComplete": True})
    assert talk.of("response.done")["response"]["usage"] is None
    talk.hears(serverContent={"turnComplete": True}, usageMetadata=USAGE)
    talk.clear()
    talk.speaks()
    talk.hears(serverContent={"turnComplete": True}, usageMetadata=USAGE)
    assert talk.of("response.done")["response"]["usage"]["input_tokens"] == 60


def test_text_alone_is_written() -> None:
    talk = Talk(session={"output_modalities": ["text"]})
    talk.speaks("hi")
    talk.hears(serverContent={"turnComplete": True})
    assert "response.output_audio.delta" not in talk.types
    assert talk.of("response.output_text.delta")["delta"] == "hi"
    assert talk.of("response.done")["response"]["output"][0]["content"] == [
        {"type": "output_text", "text": "hi"}
    ]


def test_what_the_caller_says_is_an_item_of_its_own() -> None:
    talk = Talk()
    for word in ("hello ", "there"):
        talk.hears(serverContent={"inputTranscription": {"text": word}})
    assert talk.types == [
        "input_audio_buffer.speech_started",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.delta",
    ]
    talk.clear()
    talk.speaks()
    assert talk.types[:6] == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
    ]
    kind = "conversation.item.input_audio_transcription.completed"
    assert talk.of(kind)["transcript"] == "hello there"


def test_an_interruption_starts_speech_and_ends_the_response() -> None:
    talk = Talk()
    talk.speaks()
    talk.clear()
    talk.hears(serverContent={"interrupted": True})
    assert talk.types[0] == "input_audio_buffer.speech_started"
    done = talk.of("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")


def test_the_rest_of_a_cancelled_answer_is_dropped() -> None:
    talk = Talk()
    talk.says("response.cancel")
    assert talk.told[0]["error"]["code"] == "response_cancel_not_active"
    talk.speaks()
    talk.clear()
    talk.says("response.cancel")
    assert talk.of("response.done")["response"]["status"] == "cancelled"
    talk.clear()
    talk.speaks()
    assert talk.told == []
    talk.hears(serverContent={"turnComplete": True})
    talk.speaks()
    assert "response.created" in talk.types


def test_a_client_that_ends_turns_itself_is_answered_when_it_asks() -> None:
    talk = Talk(session=MANUAL)
    talk.says("input_audio_buffer.append", audio="AAAA")
    talk.says("input_audio_buffer.append", audio="BBBB")
    assert [list(one["realtimeInput"]) for one in talk.sent] == [
        ["activityStart"], ["audio"], ["audio"],
    ]  # fmt: skip
    talk.clear()
    talk.says("input_audio_buffer.commit")
    assert talk.sent == []
    assert talk.types[0] == "input_audio_buffer.committed"
    item = talk.told[0]["item_id"]
    talk.says("response.create")
    assert talk.sent == [{"realtimeInput": {"activityEnd": {}}}]
    talk.hears(serverContent={"inputTranscription": {"text": "hello"}})
    talk.speaks()
    heard = talk.of("conversation.item.input_audio_transcription.completed")
    assert (heard["item_id"], heard["transcript"]) == (item, "hello")


def test_a_function_call_ends_the_response_and_its_result_waits_to_be_asked_for() -> None:
    talk = Talk()
    call = {"id": "g-1", "name": "weather", "args": {"city": "Rome"}}
    talk.hears(toolCall={"functionCalls": [call]}, usageMetadata=USAGE)
    done = talk.of("response.done")["response"]
    (item,) = done["output"]
    assert (item["name"], item["arguments"]) == ("weather", '{"city":"Rome"}')
    assert len(item["call_id"]) <= 32
    assert done["usage"]["input_tokens"] == 30
    talk.clear()
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": "sun"}
    talk.says("conversation.item.create", item=output)
    assert talk.sent == []
    talk.says("response.create")
    assert talk.sent == [{"toolResponse": {"functionResponses": [
        {"id": "g-1", "name": "weather", "response": {"output": "sun"}}]}}]  # fmt: skip
    talk.says("conversation.item.create", item=output)
    assert len(talk.sent) == 1  # it is known no more


def test_items_are_cut_short_and_deleted_for_the_client_alone() -> None:
    talk = Talk()
    talk.says("conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=5)
    talk.says("conversation.item.delete", item_id="i")
    talk.says("input_audio_buffer.clear")
    talk.says("of.tomorrow", event_id="e")
    assert talk.types == [
        "conversation.item.truncated",
        "conversation.item.deleted",
        "input_audio_buffer.cleared",
        "error",
    ]
    assert talk.told[-1]["error"]["event_id"] == "e"
    assert talk.sent == []


def test_a_tool_call_that_is_nested_too_deep_ends_the_line() -> None:
    talk = Talk()
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    frame = b'{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":' + deep + b"}]}}"
    (failed,) = talk.line.decode(frame)
    assert isinstance(failed, LineFailed)
    assert failed.failure.kind is Kind.PROTOCOL_ERROR


@pytest.mark.parametrize("frame", ["{", b"\xff", "[]", "{}"])
def test_nonsense_ends_the_line(frame: str | bytes) -> None:
    (event,) = Talk().line.decode(frame)
    assert isinstance(event, LineFailed)
    assert event.failure.kind is Kind.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "content",
    [7, {"modelTurn": 7}, {"modelTurn": {"parts": [7, {"inlineData": 7}]}},
     {"inputTranscription": "x"}, {"outputTranscription": {"text": 7}}],
)  # fmt: skip
def test_nonsense_in_content_is_no_answer(content: Any) -> None:
    talk = Talk()
    talk.hears(serverContent=content, toolCall={"functionCalls": 7}, usageMetadata=7)
    assert talk.told == []


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1008, "The session has reached its maximum duration.", Kind.SESSION_LIMIT),
        (1011, "RESOURCE_EXHAUSTED: slow down", Kind.RATE_LIMITED),
        (1011, "You exceeded your current quota", Kind.RATE_LIMITED),
        (1008, "API key not valid.", Kind.UPSTREAM_AUTH),
        (1008, "models/x is not found for API version v1beta", Kind.UPSTREAM_NOT_FOUND),
        (1007, "invalid argument", Kind.UPSTREAM_REFUSED),
        (1006, "", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_is_a_failure_of_its_kind(code: int, reason: str, kind: Kind) -> None:
    assert Talk().line.closed(code, reason).kind is kind

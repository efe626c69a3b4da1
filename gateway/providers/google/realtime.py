"""Gemini's Live API as OpenAI's Realtime protocol.

Source: https://ai.google.dev/api/live, https://ai.google.dev/gemini-api/docs/live-guide.

What differs, and how it is met:

- A session is set up once (`setup`), with the client's first `session.update`; later changes of
  instructions and tools go out as `contextUpdate`, other changes are told as an error. Nothing may
  be sent before `setupComplete`, so what comes earlier waits in `_queue`.
- There are no responses: one begins with the first piece of a turn of the model's and ends with
  `generationComplete`, `interrupted` or a tool call. `response.cancel` ends it for the client; the
  rest of the turn is dropped. What would make the model speak at once (the result of a call, the
  end of an utterance whose end the client tells) waits for the client's `response.create`.
- There are no items: the line names them, and answers deletion and truncation itself. What is
  deleted or cut short the model still remembers.
- What the caller says is told by `inputTranscription`: its first words stand for the start of
  speech, the model's first piece for the end.
- Tokens are told beside what is said, sometimes after its end: then with the next response.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.providers._shared.stt import failure_of_close, objects, parsed, said, text_of
from gateway.upstreams.chat import token_count
from gateway.upstreams.dial import Dial, websocket_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.realtime import ClientEvent, LineFailed, ServerEvent, server_event

PATH: Final = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
RATE: Final = 24_000
"""Of audio both ways, s16le mono."""

QUEUE_MAX: Final = 4096
"""Frames that wait for `setupComplete`; the session gives the provider seconds for it."""

USAGES_MAX: Final = 64
"""Counts of tokens between two responses; there is one for each."""

CALLS_MAX: Final = 1024
"""Function calls remembered until their results come; the oldest are forgotten."""

VOICES: Final = frozenset(
    "alloy ash ballad coral echo sage shimmer verse marin cedar".split()
)  # OpenAI's: clients send one by default
VOICE: Final = "Puck"

_HEARD: Final = frozenset({"inputTranscription", "interimInputTranscription"})

_CANNOT: Final = "cannot change once the session has begun: connect again"


class GoogleRealtime:
    """The adapter of one Gemini provider."""

    def __init__(self, account: Account) -> None:
        parts = urlsplit(account.base_url)  # the chat's address has a path
        self._dial = Dial(
            websocket_url(f"{parts.scheme}://{parts.netloc}/{PATH}"),
            {"x-goog-api-key": account.api_key, **account.headers},
            ping_interval_s=30.0,
        )

    def line(self, attempt: Attempt) -> GoogleLine:
        return GoogleLine(self._dial, attempt)


def _frame(**message: Any) -> str:
    return orjson.dumps(message).decode()


class GoogleLine:
    """One connection, and the conversation as the client sees it."""

    def __init__(self, dial: Dial, attempt: Attempt) -> None:
        self._dial = dial
        self._attempt = attempt
        self._session: dict[str, Any] = {}
        self._set_up = False  # `setup` was sent
        self._queue: deque[str] | None = deque()  # until setupComplete
        self._numbers = 0
        self._last_item: str | None = None
        # what the client has asked
        self._metadata: Any = None  # of its response.create
        self._asked = False
        self._manual = False  # it says itself where a turn ends
        self._active = False  # activityStart was sent
        self._committed: str | None = None  # the item of what it has said is over
        self._ends = False  # activityEnd waits for response.create
        self._results: list[dict[str, Any]] = []  # of calls; the same
        self._new_text = False  # it has written something that has no answer
        self._calls: dict[str, tuple[str, str]] = {}  # call_id -> Gemini's id, name
        # what the caller says
        self._turn: str | None = None  # the item of a turn that is being heard
        self._heard = ""
        # what the model says
        self._response: str | None = None
        self._message: str | None = None
        self._said = ""
        self._output: list[dict[str, Any]] = []
        self._dropping = False  # the client has cancelled the rest
        self._usage: list[Mapping[str, Any]] = []  # told since the last response

    def dial(self) -> Dial:
        return self._dial

    def opening(self) -> Sequence[str]:
        return ()

    def greeting(self) -> Sequence[ServerEvent]:
        session = {"type": "realtime", "object": "realtime.session", "id": self._new("sess")}
        return (server_event("session.created", session={**session, **self._shown()}),)

    def closed(self, code: int, reason: str) -> Failure:
        words = reason.lower()
        if "goaway" in words or "duration" in words or "deadline" in words:
            return Failure(Kind.SESSION_LIMIT, said(reason), upstream_status=code)
        for mark, kind in (
            ("resource_exhausted", Kind.RATE_LIMITED),
            ("quota", Kind.RATE_LIMITED),
            ("api key", Kind.UPSTREAM_AUTH),
            ("not found", Kind.UPSTREAM_NOT_FOUND),
        ):
            if mark in words:
                return Failure(kind, said(reason), upstream_status=code)
        return failure_of_close(code, reason)

    def _new(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}_{id(self):x}_{self._numbers}"

    # -- what the client says

    def encode(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        if event.type == "session.update":
            return self._update(event)
        begun: list[str | ServerEvent] = [] if self._set_up else self._begin()
        return [*begun, *self._said_by_client(event)]

    def _said_by_client(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        body = event.body
        match event.type:
            case "input_audio_buffer.append":
                return self._append(text_of(body.get("audio")))
            case "input_audio_buffer.commit":
                return self._commit()
            case "input_audio_buffer.clear":
                return (server_event("input_audio_buffer.cleared"),)
            case "conversation.item.create":
                return self._create(event)
            case "conversation.item.delete":
                item = text_of(body.get("item_id"))
                return (server_event("conversation.item.deleted", item_id=item),)
            case "conversation.item.truncate":
                told = {name: body.get(name) for name in ("item_id", "content_index")}
                end = body.get("audio_end_ms")
                return (server_event("conversation.item.truncated", **told, audio_end_ms=end),)
            case "response.create":
                return self._create_response(event)
            case "response.cancel":
                return self._cancel(event)
        return (_error(f"this model has no {event.type[:64]!r}", "unsupported", event),)

    def _update(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        session = event.body.get("session")
        if not isinstance(session, dict):
            return (_error("session: expected an object", "invalid_value", event),)
        before, self._session = self._session, _merged(self._session, session)
        updated = server_event("session.updated", session=self._shown())
        if not self._set_up:
            return [*self._begin(), updated]
        changes: dict[str, Any] = {}
        if _instructions(before) != _instructions(self._session):
            changes["systemInstruction"] = _instructions(self._session)
        if before.get("tools") != self._session.get("tools"):
            changes["tools"] = {"tools": _tools(self._session)}
        wrong: list[str | ServerEvent] = []
        if _fixed(before) != _fixed(self._session):
            wrong.append(_error(f"session: its voice and turns {_CANNOT}", "unsupported", event))
        return [*self._send(contextUpdate=changes), *wrong, updated] if changes else [
            *wrong, updated
        ]  # fmt: skip

    def _begin(self) -> list[str | ServerEvent]:
        """The setup, by what the client has said of the session so far."""
        self._set_up = True
        session = self._session
        self._manual = _turn_detection(session) is None
        config: dict[str, Any] = {
            "responseModalities": ["AUDIO"],
            "speechConfig": {
                "voiceConfig": {"prebuiltVoiceConfig": {"voiceName": _voice(session)}}
            },
        }
        limit = session.get("max_output_tokens")
        if isinstance(limit, int):
            config["maxOutputTokens"] = limit
        setup: dict[str, Any] = {
            "model": f"models/{self._attempt.model}",
            "generationConfig": config,
            "inputAudioTranscription": {},
            "outputAudioTranscription": {},
        }
        if (instructions := _instructions(session)) is not None:
            setup["systemInstruction"] = instructions
        if tools := _tools(session):
            setup["tools"] = tools
        if self._manual:
            setup["realtimeInputConfig"] = {"automaticActivityDetection": {"disabled": True}}
        return [_frame(setup={**setup, **self._attempt.options})]

    def _send(self, **message: Any) -> list[str]:
        frame = _frame(**message)
        if self._queue is None:
            return [frame]
        if len(self._queue) < QUEUE_MAX:
            self._queue.append(frame)
        return []

    def _append(self, audio: str) -> Sequence[str]:
        began: list[str] = []
        if self._manual and not self._active:
            self._active = True
            began = self._send(realtimeInput={"activityStart": {}})
        blob = {"data": audio, "mimeType": f"audio/pcm;rate={RATE}"}
        return [*began, *self._send(realtimeInput={"audio": blob})]

    def _commit(self) -> Sequence[str | ServerEvent]:
        if not self._manual:
            return self._send(realtimeInput={"audioStreamEnd": True})
        self._ends, self._committed = self._active, self._new("item")
        return self._turn_over(self._committed)

    def _create(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        item = event.body.get("item")
        if not isinstance(item, dict):
            return (_error("item: expected an object", "invalid_value", event),)
        made = {**item, "id": text_of(item.get("id")) or self._new("item"), "status": "completed"}
        added = self._added(made, event.body.get("previous_item_id"))
        if item.get("type") == "function_call_output":
            known = self._calls.pop(text_of(item.get("call_id")), None)
            if known is None:
                return added  # of a conversation before this one
            output = {"id": known[0], "name": known[1], "response": {"output": item.get("output")}}
            self._results.append(output)
            return added
        if item.get("type") != "message" or not (parts := _parts(item)):
            return added
        role = "model" if item.get("role") == "assistant" else "user"
        self._new_text = self._new_text or role == "user"
        turn = {"role": role, "parts": parts}
        content = {"turns": [turn], "turnComplete": False}
        return [*self._send(clientContent=content), *added]

    def _added(self, item: dict[str, Any], previous: Any) -> list[ServerEvent]:
        before = None if previous == "root" else previous or self._last_item
        self._last_item = item["id"]
        return [
            server_event(f"conversation.item.{word}", item=item, previous_item_id=before)
            for word in ("added", "done")
        ]

    def _create_response(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        if self._response is not None:
            words = "Conversation already has an active response in progress."
            return (_error(words, "conversation_already_has_active_response", event),)
        asked = event.body.get("response")
        asked = asked if isinstance(asked, dict) else {}
        self._metadata, self._asked = asked.get("metadata"), True
        # told at once, as OpenAI does: clients wait for it, and the model may think for long
        told = self._open_response() if self._queue is None else []
        return [*self._asked_for(asked), *told]

    def _asked_for(self, asked: Mapping[str, Any]) -> list[str]:
        """What makes the model answer."""
        instructions = text_of(asked.get("instructions"))
        if self._results:
            results, self._results = self._results, []
            return self._send(toolResponse={"functionResponses": results})
        if self._ends:
            self._ends = self._active = False
            return self._send(realtimeInput={"activityEnd": {}})
        if self._new_text and not instructions:
            self._new_text = False
            return self._send(clientContent={"turnComplete": True})
        # without a word of the user's the model says nothing
        turn = {"role": "user", "parts": [{"text": instructions or "."}]}
        self._new_text = False
        return self._send(clientContent={"turns": [turn], "turnComplete": True})

    def _cancel(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        if self._response is None:
            words = "Cancellation failed: no active response found"
            return (_error(words, "response_cancel_not_active", event),)
        self._dropping = True
        return self._finish("cancelled", "client_cancelled")

    # -- what the provider says

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed | str]:
        message = parsed(frame)
        if not message:
            words = "the provider sent what is no message of its protocol"
            return (LineFailed(Failure(Kind.PROTOCOL_ERROR, words)),)
        told: list[ServerEvent | LineFailed | str] = []
        if "setupComplete" in message and self._queue is not None:
            told += self._queue
            self._queue = None
            told += self._open_response() if self._asked else []
        if isinstance(usage := message.get("usageMetadata"), dict):
            self._usage = [*self._usage, usage][-USAGES_MAX:]
        if isinstance(content := message.get("serverContent"), dict):
            told += self._content(content)
        if isinstance(call := message.get("toolCall"), dict):
            try:
                told += self._tool_calls(objects(call.get("functionCalls")))
            except TypeError:  # orjson reads what is nested deeper than it writes
                words = "the provider made a tool call that cannot be written"
                told.append(LineFailed(Failure(Kind.PROTOCOL_ERROR, words)))
        return told

    def _content(self, content: dict[str, Any]) -> list[ServerEvent]:
        told: list[ServerEvent] = []
        if heard := _text(content.get("inputTranscription")):
            told += self._hear(heard)
        if content.get("interrupted") is True:
            if not self._manual and self._turn is None:
                told += self._speech_started()
            if self._response is not None:
                told += self._finish("cancelled", "turn_detected")
            self._dropping = False
        if self._committed is not None and content.keys() - _HEARD:
            told += self._transcribed(self._committed)
        if not self._dropping:
            model = content.get("modelTurn")
            parts = objects(model.get("parts")) if isinstance(model, dict) else []
            for part in parts:
                data = part.get("inlineData")
                audio = text_of(data.get("data")) if isinstance(data, dict) else ""
                if audio and not self._writes:
                    told += self._speak("response.output_audio.delta", audio)
            if spoken := _text(content.get("outputTranscription")):
                transcript = "response.output_audio_transcript.delta"
                told += self._speak("response.output_text.delta" if self._writes else transcript,
                                    spoken)  # fmt: skip
                self._said += spoken
        done = content.get("turnComplete") is True
        if (done or content.get("generationComplete") is True) and self._response is not None:
            told += self._finish("completed", None)
        if done:
            self._dropping = False
        return told

    def _speech_started(self) -> list[ServerEvent]:
        self._turn, self._heard = self._new("item"), ""
        started = {"item_id": self._turn, "audio_start_ms": 0}
        return [server_event("input_audio_buffer.speech_started", **started)]

    def _hear(self, text: str) -> list[ServerEvent]:
        told: list[ServerEvent] = []
        if self._manual:
            self._heard += text  # told when the model answers
            return []
        if self._turn is None:
            told = self._speech_started()
        self._heard += text
        return [
            *told,
            server_event(
                "conversation.item.input_audio_transcription.delta",
                item_id=self._turn, content_index=0, delta=text,
            ),
        ]  # fmt: skip

    def _turn_over(self, turn: str) -> list[ServerEvent]:
        """The caller has ended a turn."""
        part = {"type": "input_audio", "transcript": self._heard or None}
        item = {"id": turn, "type": "message", "role": "user", "content": [part]}
        before = self._last_item
        told = [
            server_event("input_audio_buffer.committed", item_id=turn, previous_item_id=before),
            *self._added({**item, "status": "completed"}, before),
        ]
        return [*told, *self._transcribed(turn)]

    def _transcribed(self, turn: str) -> list[ServerEvent]:
        heard, self._heard = self._heard.strip(), ""
        if not heard:
            return []
        kind = "conversation.item.input_audio_transcription.completed"
        return [server_event(kind, item_id=turn, content_index=0, transcript=heard)]

    def _open_response(self) -> list[ServerEvent]:
        if self._response is not None:
            return []
        told: list[ServerEvent] = []
        if self._turn is not None:
            turn, self._turn = self._turn, None
            stopped = {"item_id": turn, "audio_end_ms": 0}
            told = [server_event("input_audio_buffer.speech_stopped", **stopped)]
            told += self._turn_over(turn)
        self._response, self._output = self._new("resp"), []
        return [*told, server_event("response.created", response=self._resource("in_progress"))]

    def _resource(self, status: str, reason: str | None = None) -> dict[str, Any]:
        details = None if reason is None else {"type": status, "reason": reason}
        return {
            "object": "realtime.response",
            "id": self._response,
            "status": status,
            "status_details": details,
            "output": list(self._output),
            "output_modalities": ["text"] if self._writes else ["audio"],
            "metadata": self._metadata if self._asked else None,
            "usage": None,
        }

    def _speak(self, kind: str, delta: str) -> list[ServerEvent]:
        told = self._open_response()
        if self._message is None:
            self._message, self._said = self._new("item"), ""
            item = {"id": self._message, "type": "message", "role": "assistant", "content": []}
            told += self._begin_item({**item, "status": "in_progress"})
            part = {"type": "text", "text": ""} if self._writes else {
                "type": "audio", "transcript": ""
            }  # fmt: skip
            told.append(server_event("response.content_part.added", part=part, **self._place()))
        return [*told, server_event(kind, delta=delta, **self._place())]

    def _place(self) -> dict[str, Any]:
        index = len(self._output)
        return {
            "response_id": self._response,
            "item_id": self._message,
            "output_index": index,
            "content_index": 0,
        }

    def _begin_item(self, item: dict[str, Any]) -> list[ServerEvent]:
        place = {"response_id": self._response, "output_index": len(self._output)}
        before, self._last_item = self._last_item, item["id"]
        return [
            server_event("response.output_item.added", item=item, **place),
            server_event("conversation.item.added", item=item, previous_item_id=before),
        ]

    def _end_item(self, item: dict[str, Any]) -> list[ServerEvent]:
        place = {"response_id": self._response, "output_index": len(self._output)}
        self._output.append(item)
        return [
            server_event("response.output_item.done", item=item, **place),
            server_event("conversation.item.done", item=item, previous_item_id=None),
        ]

    def _end_message(self, status: str) -> list[ServerEvent]:
        if self._message is None:
            return []
        place = self._place()
        part = {"type": "output_audio", "transcript": self._said}
        ends = [
            server_event("response.output_audio.done", **place),
            server_event("response.output_audio_transcript.done", transcript=self._said, **place),
        ]
        if self._writes:
            part = {"type": "output_text", "text": self._said}
            ends = [server_event("response.output_text.done", text=self._said, **place)]
        item = {"id": self._message, "type": "message", "role": "assistant", "content": [part]}
        told = [
            *ends,
            server_event("response.content_part.done", part=part, **place),
            *self._end_item({**item, "status": status}),
        ]
        self._message, self._said = None, ""
        return told

    def _tool_calls(self, calls: list[dict[str, Any]]) -> list[ServerEvent]:
        if self._dropping or not calls:
            return []
        told = [*self._open_response(), *self._end_message("completed")]
        for call in calls:
            name, call_id = text_of(call.get("name")), self._new("call")[-32:]
            arguments = orjson.dumps(call.get("args") or {}).decode()
            self._calls[call_id] = text_of(call.get("id")), name
            if len(self._calls) > CALLS_MAX:
                del self._calls[next(iter(self._calls))]
            item = {"id": self._new("item"), "type": "function_call", "name": name,
                    "call_id": call_id, "arguments": ""}  # fmt: skip
            place = {"response_id": self._response, "output_index": len(self._output),
                     "item_id": item["id"], "call_id": call_id}  # fmt: skip
            kind = "response.function_call_arguments"
            told += self._begin_item({**item, "status": "in_progress"})
            told.append(server_event(f"{kind}.delta", delta=arguments, **place))
            told.append(server_event(f"{kind}.done", arguments=arguments, name=name, **place))
            told += self._end_item({**item, "arguments": arguments, "status": "completed"})
        return [*told, *self._finish("completed", None)]

    def _finish(self, status: str, reason: str | None) -> list[ServerEvent]:
        told = self._end_message("completed" if status == "completed" else "incomplete")
        resource = {**self._resource(status, reason), "usage": _usage(self._usage)}
        self._response = self._metadata = None
        self._usage, self._asked = [], False
        return [*told, server_event("response.done", response=resource)]

    @property
    def _writes(self) -> bool:
        """Whether the client wants text alone; the model speaks all the same."""
        return self._session.get("output_modalities") == ["text"]

    def _shown(self) -> dict[str, Any]:
        return {**self._session, "model": self._attempt.model}


def _error(words: str, code: str, event: ClientEvent) -> ServerEvent:
    about = event.body.get("event_id")
    error = {"type": "invalid_request_error", "code": code, "message": words, "param": None,
             "event_id": about if isinstance(about, str) else None}  # fmt: skip
    return server_event("error", error=error)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(old)
    for name, value in new.items():
        before = found.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        found[name] = _merged(before, value) if both and isinstance(before, dict) else value
    return found


def _audio(session: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    audio = session.get("audio")
    found = audio.get(side) if isinstance(audio, dict) else None
    return found if isinstance(found, dict) else {}


def _turn_detection(session: Mapping[str, Any]) -> Any:
    """None: the client says itself where a turn ends."""
    return _audio(session, "input").get("turn_detection", {})


def _fixed(session: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a session keeps."""
    return _voice(session), _turn_detection(session) is None


def _voice(session: Mapping[str, Any]) -> str:
    voice = text_of(_audio(session, "output").get("voice"))
    return VOICE if not voice or voice in VOICES else voice


def _instructions(session: Mapping[str, Any]) -> dict[str, Any] | None:
    text = text_of(session.get("instructions"))
    return {"parts": [{"text": text}]} if text else None


def _tools(session: Mapping[str, Any]) -> list[dict[str, Any]]:
    declared = [
        {
            "name": text_of(tool.get("name")),
            "description": text_of(tool.get("description")),
            "parametersJsonSchema": tool.get("parameters") or {"type": "object"},
            "behavior": "BLOCKING",  # OpenAI's protocol has no other
        }
        for tool in objects(session.get("tools"))
        if tool.get("type") == "function"
    ]
    return [{"functionDeclarations": declared}] if declared else []


def _parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in objects(item.get("content")):
        if text := text_of(part.get("text")):
            found.append({"text": text})
        elif (url := text_of(part.get("image_url"))).startswith("data:"):
            kind, _, data = url[5:].partition(";base64,")
            found.append({"inlineData": {"mimeType": kind, "data": data}})
    return found


def _text(transcription: Any) -> str:
    return text_of(transcription.get("text")) if isinstance(transcription, dict) else ""


def _usage(given: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Gemini's counts in OpenAI's form."""
    if not given:
        return None

    def count(name: str) -> int:
        return sum(token_count(one.get(name)) or 0 for one in given)

    def audio(name: str) -> int:
        return sum(
            token_count(of.get("tokenCount")) or 0
            for one in given
            for of in objects(one.get(name))
            if of.get("modality") == "AUDIO"
        )

    read = count("promptTokenCount") + count("toolUsePromptTokenCount")
    written = count("responseTokenCount") + count("thoughtsTokenCount")
    heard, spoken = audio("promptTokensDetails"), audio("responseTokensDetails")
    return {
        "total_tokens": read + written,
        "input_tokens": read,
        "output_tokens": written,
        "input_token_details": {
            "text_tokens": max(0, read - heard),
            "audio_tokens": heard,
            "cached_tokens": count("cachedContentTokenCount"),
            "cached_tokens_details": {"audio_tokens": audio("cacheTokensDetails")},
        },
        "output_token_details": {
            "text_tokens": max(0, written - spoken),
            "audio_tokens": spoken,
        },
    }

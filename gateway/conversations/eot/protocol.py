"""WebSocket /eot: what a client may say, and the forms of what it is told. Pure.

Binary messages of the published package `livekit-protocol`: ClientMessage in, ServerMessage out
(Python since 1.6.1, Node since 1.4.11). Times are Unix nanoseconds as the client's clock has them;
0 stands for "not said".

    -> session_create (settings: sample_rate 16000, PCM s16le)
    <- session_created: `default_threshold`, `default_thresholds` by language, and the same pair for
        backchannels. A client gives up on a server that names no language.
    -> input_audio, all the time, with the moment it was recorded
    -> inference_start (`request_id`): the newest audio is to be judged; the client itself looks at
        1.2 s of it
    <- eot_prediction with that `request_id`: the probability that the turn is over, the
        probability of a backchannel, and how the prediction came about
    -> session_flush: what was heard so far belongs to a turn that is over
    -> inference_stop: the answer is no longer wanted  <- inference_stopped
    -> session_close  <- session_closed
    <- error (`message`, `code`): the client goes on with its own small model and does not return.

POST /eot/multi, the end of a turn by its words, is described in `text_route`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.conversations.messages import bad_request
from gateway.engines.types import Thresholds
from gateway.upstreams.errors import Failure

SAMPLE_RATE: Final = 16_000
"""The only rate that is served; the clients resample to it."""

REQUEST_ID_CHARS_MAX: Final = 256
"""A longer request id is refused: it is kept until its answer. The clients' have about 40."""


@dataclass(frozen=True, slots=True)
class Create:
    """session_create"""

    created_ns: int


@dataclass(frozen=True, slots=True)
class Audio:
    """input_audio: s16le samples, recorded when the client says."""

    samples: bytes
    created_ns: int


@dataclass(frozen=True, slots=True)
class Start:
    """inference_start: a prediction is wanted."""

    request_id: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class Stop:
    """inference_stop: the prediction is no longer wanted."""

    request_id: str
    created_ns: int


class Flush:
    """session_flush: what was heard belongs to a turn that is over."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """session_close"""

    created_ns: int


class Unknown:
    """Something that a newer client says, or that means nothing here (chat context)."""


ClientMessage = Audio | Start | Flush | Create | Stop | CloseSession | Unknown

_FLUSH: Final = Flush()
_UNKNOWN: Final = Unknown()


def read_message(data: bytes) -> ClientMessage | Failure:
    """A binary message of the client."""
    try:
        message = pb.ClientMessage.FromString(data)
    except DecodeError:
        return bad_request("the message is not a livekit.agent.ClientMessage")
    match message.WhichOneof("message"):
        case "input_audio":
            audio = message.input_audio
            if len(audio.audio) % 2:
                return bad_request(
                    f"input_audio.audio has {len(audio.audio)} bytes: s16le samples have two each",
                    "input_audio.audio",
                )
            return Audio(audio.audio, _ns(audio.created_at) or _ns(message.created_at))
        case "inference_start":
            request_id = message.inference_start.request_id
            if len(request_id) > REQUEST_ID_CHARS_MAX:
                return bad_request(
                    f"inference_start.request_id: expected at most {REQUEST_ID_CHARS_MAX} "
                    "characters",
                    "inference_start.request_id",
                )
            return Start(request_id, _ns(message.created_at))
        case "session_flush":
            return _FLUSH
        case "inference_stop":
            return Stop(message.inference_stop.request_id, _ns(message.created_at))
        case "session_create":
            return _read_create(message)
        case "session_close":
            return CloseSession(_ns(message.created_at))
        case _:
            return _UNKNOWN


def _read_create(message: pb.ClientMessage) -> Create | Failure:
    settings = message.session_create.settings
    if settings.sample_rate not in (0, SAMPLE_RATE):
        return bad_request(
            f"session_create.settings.sample_rate is {settings.sample_rate}: "
            f"expected {SAMPLE_RATE}",
            "session_create.settings.sample_rate",
        )
    if settings.encoding != pb.AUDIO_ENCODING_PCM_S16LE:
        return bad_request(
            "session_create.settings.encoding: expected AUDIO_ENCODING_PCM_S16LE",
            "session_create.settings.encoding",
        )
    return Create(_ns(message.created_at))


def session_created(thresholds: Thresholds, client_ns: int, now_ns: int) -> bytes:
    # the clients give up on a server that sends no language at all
    languages = dict(thresholds.languages) or {"en": thresholds.default}
    return _message(
        pb.ServerMessage(
            session_created=pb.SessionCreated(
                default_threshold=thresholds.default,
                default_thresholds=languages,
                default_backchannel_threshold=thresholds.backchannel_default,
                default_backchannel_thresholds=dict(thresholds.backchannel_languages or {}),
            )
        ),
        client_ns,
        now_ns,
    )


def session_closed(client_ns: int, now_ns: int) -> bytes:
    return _message(pb.ServerMessage(session_closed=pb.SessionClosed()), client_ns, now_ns)


def inference_stopped(request_id: str, client_ns: int, now_ns: int) -> bytes:
    return _message(
        pb.ServerMessage(request_id=request_id, inference_stopped=pb.InferenceStopped()),
        client_ns,
        now_ns,
    )


@dataclass(frozen=True, slots=True)
class Stats:
    """How a prediction came about. `earliest_ns` and `latest_ns`: when the oldest and the newest
    audio it rests on was recorded, by the client's clock. Durations in seconds: from the oldest
    audio to the answer, from the request to the answer, and the two parts of the engine's work."""

    earliest_ns: int
    latest_ns: int
    client_e2e_s: float
    server_e2e_s: float
    preprocess_s: float = 0.0
    inference_s: float = 0.0


def prediction(
    request_id: str,
    probability: float,
    backchannel_probability: float,
    stats: Stats,
    client_ns: int,
    now_ns: int,
) -> bytes:
    found = pb.EotPrediction(
        probability=probability,
        backchannel_probability=backchannel_probability,
        backend=pb.EotPrediction.EOT_BACKEND_MULTIMODAL,
    )
    told = found.inference_stats
    told.earliest_client_created_at.FromNanoseconds(stats.earliest_ns)
    told.latest_client_created_at.FromNanoseconds(stats.latest_ns)
    told.client_e2e_latency.FromNanoseconds(int(stats.client_e2e_s * 1e9))
    told.server_e2e_latency.FromNanoseconds(int(stats.server_e2e_s * 1e9))
    told.preprocessing_duration.FromNanoseconds(int(stats.preprocess_s * 1e9))
    told.inference_duration.FromNanoseconds(int(stats.inference_s * 1e9))
    return _message(
        pb.ServerMessage(request_id=request_id, eot_prediction=found), client_ns, now_ns
    )


def error(failure: Failure, now_ns: int) -> bytes:
    """Ends the client's session, whatever it says."""
    return _message(
        pb.ServerMessage(error=pb.InferenceError(message=failure.message, code=failure.status)),
        0,
        now_ns,
    )


def _message(message: pb.ServerMessage, client_ns: int, now_ns: int) -> bytes:
    message.server_created_at.FromNanoseconds(now_ns)
    if client_ns:
        message.client_created_at.FromNanoseconds(client_ns)
    return message.SerializeToString()


def _ns(timestamp: Timestamp) -> int:
    ns: int = timestamp.seconds * 1_000_000_000 + timestamp.nanos
    # what FromNanoseconds accepts again: years 1 to 9999, of which we need those since 1970
    return ns if 0 < ns < 253_402_300_800_000_000_000 else 0

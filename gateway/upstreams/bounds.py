"""The bounds that a caller can come to, by name: what deploy/security.md and the metric
`parley_bound_reached_total` call them."""

from __future__ import annotations

from enum import StrEnum


class Bound(StrEnum):
    """Where a caller is refused, closed or slowed down."""

    # of the server
    SESSIONS = "sessions"
    SESSIONS_PER_KEY = "sessions_per_key"
    SESSIONS_ANONYMOUS = "sessions_anonymous"
    CONNECTIONS_PER_ADDRESS = "connections_per_address"
    DESCRIPTORS = "descriptors"
    # of a request
    HEAD_BYTES = "head_bytes"
    HEAD_LINES = "head_lines"
    HEAD_TIME = "head_time"
    URL_BYTES = "url_bytes"
    TOKEN_CHARS = "token_chars"  # noqa: S105 - a length
    BODY_BYTES = "body_bytes"
    BODY_TIME = "body_time"
    JSON_VALUES = "json_values"
    FIELD_SIZE = "field_size"
    RECORDINGS = "recordings"
    AVATARS_PER_KEY = "avatars_per_key"
    # of a session
    MESSAGE_BYTES = "message_bytes"
    MESSAGE_FRAGMENTS = "message_fragments"
    MESSAGE_AUDIO = "message_audio"
    CREATE_TIME = "create_time"
    WAITING_REQUESTS = "waiting_requests"
    SESSION_IDLE = "session_idle"
    SESSION_TIME = "session_time"
    AUDIO_AHEAD = "audio_ahead"
    UTTERANCE_CHARS = "utterance_chars"
    BAD_WINDOWS = "bad_windows"
    SLOW_READER = "slow_reader"

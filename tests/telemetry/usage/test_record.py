"""One request or session, as it is kept."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.telemetry.usage.record import COLUMNS, TEXT_CHARS_MAX, Record, record_of, sql_type


def made(notes: Mapping[str, object], **ids: str) -> Record:
    return record_of(
        at=1.0, route="chat", key="k", request_id="r", outcome="ok", duration_s=2.0,
        ids=ids, notes=notes,
    )  # fmt: skip


def test_what_a_visit_noted_of_its_use_is_kept_and_the_rest_is_not() -> None:
    record = made({"model": "a/b", "prompt_tokens": 5, "cost": 0.25, "user_agent": "x"})
    assert (record.model, record.prompt_tokens, record.cost) == ("a/b", 5, 0.25)
    assert record.completion_tokens == 0


def test_the_callers_own_ids_are_kept() -> None:
    record = made({}, room_id="room", job_id="job", agent_id="agent", client_session_id="s")
    assert (record.room_id, record.job_id, record.agent_id, record.session_id) == (
        "room",
        "job",
        "agent",
        "s",
    )


def test_a_long_text_is_cut_and_what_is_no_number_is_not_counted() -> None:
    record = made({"model": "m" * 1000, "prompt_tokens": "many", "audio_s": None})
    assert record.model == "m" * TEXT_CHARS_MAX
    assert (record.prompt_tokens, record.audio_s) == (0, 0.0)


def test_a_session_that_moved_has_all_its_providers() -> None:
    assert made({"providers": "a,b"}).provider == "a,b"
    assert made({"providers": "a,b", "provider": "b"}).provider == "b"


def test_every_column_has_a_type_and_only_an_unknown_time_may_be_empty() -> None:
    nullable = [column for column in COLUMNS if "NOT NULL" not in sql_type(column)]
    assert nullable == ["first_token_s"]

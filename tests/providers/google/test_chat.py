"""What Gemini is asked."""

from __future__ import annotations

from tests.providers.chats import SIGNED, asked, turn


def test_a_call_that_no_gemini_signed_gets_googles_placeholder() -> None:
    sent = asked("google", "gemini-3-flash", messages=turn())
    (made,) = sent["messages"][1]["tool_calls"]
    assert made["extra_content"]["google"]["thought_signature"].startswith("skip_")
    sent = asked("google", "gemini-3-flash", messages=turn(extra_content=SIGNED))
    (made,) = sent["messages"][1]["tool_calls"]
    assert made["extra_content"] == {"google": {"thought_signature": "s"}}
    assert "extra_content" not in str(asked("google", "gemini-2.5-flash", messages=turn()))

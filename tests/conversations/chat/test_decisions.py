"""Questions about a conversation: what the model is asked, and what its answer means."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from gateway.conversations.chat import decisions
from gateway.conversations.chat.decisions import (
    OPTIONS_MAX,
    QUESTIONS_MAX,
    Asked,
    answers,
    chat_body,
)
from gateway.upstreams.errors import Failure

HANDOFF = {"type": "noul", "instructions": "The caller wants a person."}
MOOD = {"type": "choice", "instructions": "How?", "criteria": {"calm": "at ease", "angry": "not"}}
URGENCY = {"type": "score", "instructions": "How urgent?", "criteria": ["no", "some", "much"]}
QUESTIONS = {"handoff": HANDOFF, "mood": MOOD, "urgency": URGENCY}


def body(**changes: Any) -> bytes:
    return orjson.dumps(
        {"model": "m", "state": "user: a person, please", "questions": QUESTIONS} | changes
    )


def asked(**changes: Any) -> Asked:
    found = decisions.read(body(**changes))
    assert isinstance(found, Asked), found
    return found


def told(said: object, logprobs: Any = None, **changes: Any) -> dict[str, Any]:
    text = said if isinstance(said, str) else orjson.dumps(said).decode()
    completion = {
        "choices": [{"message": {"content": text}, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 9},
    }
    found: dict[str, Any] = orjson.loads(answers(asked(**changes), completion, "req_1"))
    return found


SAID = {
    "handoff": {"answer": "A", "probability": 0.9},
    "mood": {"answer": "B", "probability": 0.8},
    "urgency": {"answer": "C", "probability": 0.5},
}


def test_the_model_is_asked_for_a_letter_of_each_question_by_a_schema() -> None:
    made = chat_body(asked(), "openai/gpt-4.1-mini")
    schema = made["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["handoff", "mood", "urgency"]
    assert schema["properties"]["urgency"]["properties"]["answer"]["enum"] == ["A", "B", "C"]
    system, user = (message["content"] for message in made["messages"])
    assert "  B. angry: not" in system
    assert "a person, please" in user
    assert "reasoning_effort" not in made
    assert chat_body(asked(), "openai/gpt-6-luna")["reasoning_effort"] == "none"


def test_without_log_probabilities_the_models_word_counts_and_is_labelled() -> None:
    found = told(SAID)["answers"]
    assert found["handoff"] == {
        "type": "noul", "noul": 0.9, "confidence": 0.9, "source": "stated"
    }  # fmt: skip
    assert found["mood"]["choice"] == "angry"
    assert found["mood"]["probabilities"]["calm"] == pytest.approx(0.2)
    assert found["urgency"]["score"] == pytest.approx(2 * 0.5 + 1 * 0.25)
    assert found["urgency"]["legend"] == ["no", "some", "much"]


def test_a_no_is_a_small_probability() -> None:
    said = {"handoff": {"answer": "B", "probability": 0.95}}
    assert told(said)["answers"]["handoff"]["noul"] == pytest.approx(0.05)


def tokens(*pieces: str, **chances: float) -> dict[str, Any]:
    """Each piece a token; the one that is a single letter has `chances` in its place."""
    return {
        "content": [
            {
                "token": piece,
                "top_logprobs": [
                    {"token": letter, "logprob": math.log(chance)}
                    for letter, chance in chances.items()
                ]
                if len(piece) == 1
                else [],
            }
            for piece in pieces
        ]
    }


def test_the_models_own_probabilities_count_where_the_vendor_tells_them() -> None:
    pieces = ('{"handoff":{"answer":"', "A", '","probability":0.99}}')
    found = told("".join(pieces), tokens(*pieces, A=0.6, B=0.3, X=0.1))["answers"]["handoff"]
    assert found["source"] == "logprobs"
    assert found["noul"] == pytest.approx(0.6 / 0.9)


def test_tokens_that_are_not_the_text_are_not_believed() -> None:
    found = told({"handoff": SAID["handoff"]}, tokens("other", "A", A=0.5))["answers"]["handoff"]
    assert found["source"] == "stated"


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "[]",
        {},
        {"handoff": "A"},
        {"handoff": {"answer": "Z"}},
        {"handoff": {"answer": 1}},
        {"handoff": {"answer": ""}},
    ],
)
def test_what_the_model_did_not_answer_is_a_refusal(said: object) -> None:
    assert told(said)["answers"]["handoff"] == {"type": "refusal"}


@pytest.mark.parametrize("probability", ["much", None, math.nan, 7, -1])
def test_a_probability_is_one_whatever_the_model_says(probability: object) -> None:
    said = {"handoff": {"answer": "A", "probability": probability}}
    assert 0 <= told(said)["answers"]["handoff"]["noul"] <= 1


def test_usage_is_in_the_clients_words() -> None:
    assert told(SAID)["usage"] == {"input_tokens": 30, "output_tokens": 9}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"questions": {}}, "questions"),
        ({"questions": {f"q{i}": HANDOFF for i in range(QUESTIONS_MAX + 1)}}, "questions"),
        ({"questions": {"a": {"type": "riddle"}}}, "questions"),
        ({"questions": {"a": {**MOOD, "criteria": {"one": "x"}}}}, "criteria"),
        ({"questions": {"a": {**URGENCY, "criteria": ["l"] * (OPTIONS_MAX + 1)}}}, "criteria"),
        ({"state": 7}, "state"),
        ({"model": None}, "model"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(
    changes: dict[str, Any], field: str
) -> None:
    found = decisions.read(body(**changes))
    assert isinstance(found, Failure)
    assert field in found.message

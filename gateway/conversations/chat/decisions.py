"""Questions about a conversation, asked of a chat model: what a client may say, what the model is
asked, and what its answer means. Pure.

POST /decisions (`inference.DecisionModel` of LiveKit's Python client since 1.8)
    {"model": "openai/gpt-6-luna-decisions", "state": "user: ...\\nassistant: ...",
     "questions": {"handoff": {"type": "noul", "instructions": "The caller wants a person."},
                   "mood": {"type": "choice", "instructions": "...",
                            "criteria": {"calm": "...", "angry": "..."}},
                   "urgency": {"type": "score", "instructions": "...",
                               "criteria": ["none", "some", "much"]}}}
    {"answers": {"handoff": {"type": "noul", "noul": 0.93},
                 "mood": {"type": "choice", "choice": "calm", "probabilities": {...}},
                 "urgency": {"type": "score", "score": 1.2, "probabilities": {"0": 0.1, ...},
                             "legend": ["none", "some", "much"]}},
     "model": "...", "usage": {"input_tokens": 210, "output_tokens": 18}, "id": "..."}
        A question that the model did not answer is {"type": "refusal"}. Each answer has a
        `confidence`, and a `source`: "logprobs" where the probabilities are the model's own for the
        token that it chose, "stated" where they are what it said.
    {"type": "...", "error": "...", "hint": ""} with a status, where it fails.

The model is asked for JSON that has, for each question, the letter of an option and how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, Field, TypeAdapter

from gateway.conversations.messages import (
    Expected,
    Message,
    Name,
    expected,
    parse,
    required,
    validated,
)
from gateway.upstreams.errors import Failure

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

OPTIONS_MAX: Final = len(LETTERS)
"""Of one question."""

QUESTIONS_MAX: Final = 32
"""Of one request."""

QUESTION_CHARS_MAX: Final = 4000
"""Of the instructions of one question, or of the words for one option."""

STATE_CHARS_MAX: Final = 200_000
"""Of the conversation."""

TOKENS_EACH: Final = 32
"""Tokens that the answer to one question may take, its name aside."""

SPECIALISTS: Final[Mapping[str, str]] = {"openai/gpt-6-luna-decisions": "openai/gpt-6-luna"}
"""Models that serve nothing but decisions at LiveKit, and the chat model that comes nearest."""

Words = Annotated[
    str,
    Field(min_length=1, max_length=QUESTION_CHARS_MAX),
    Expected(f"a text of at most {QUESTION_CHARS_MAX} characters"),
]


def _enough(options: Any) -> Any:
    if not 2 <= len(options) <= OPTIONS_MAX:
        raise expected(f"2 to {OPTIONS_MAX} options")
    return options


def _few(questions: Any) -> Any:
    if not 1 <= len(questions) <= QUESTIONS_MAX:
        raise expected(f"1 to {QUESTIONS_MAX} questions by name")
    return questions


class Noul(Message):
    """How probable is it?"""

    type: Literal["noul"]
    instructions: Words = required()


class Choice(Message):
    """Which of these?"""

    type: Literal["choice"]
    instructions: Words = required()
    criteria: Annotated[dict[Name, str], AfterValidator(_enough)] = required()


class Score(Message):
    """How much, on ordered levels?"""

    type: Literal["score"]
    instructions: Words = required()
    criteria: Annotated[list[Words], AfterValidator(_enough)] = required()


Question = Annotated[Noul | Choice | Score, Field(discriminator="type")]


class Asked(Message):
    """A request."""

    model: Name = required()
    state: Annotated[
        str,
        Field(max_length=STATE_CHARS_MAX),
        Expected(f"a text of at most {STATE_CHARS_MAX} characters"),
    ] = required()
    questions: Annotated[dict[Name, Question], AfterValidator(_few)] = required()


_ASKED: Final = TypeAdapter(Asked)


def read(body: bytes) -> Asked | Failure:
    """A request of a client."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    return validated(parsed, _ASKED)


def options(question: Noul | Choice | Score) -> list[str]:
    """What can be answered, in words."""
    match question:
        case Noul():
            return ["yes", "no"]
        case Choice(criteria=criteria):
            return [f"{name}: {words}" for name, words in criteria.items()]
        case Score(criteria=levels):
            return levels


def chat_body(asked: Asked, model: str) -> dict[str, Any]:
    """What a chat model is asked."""
    lines = [
        "You read a conversation and answer questions about it. For each question give the letter "
        "of one option, and the probability that this option is right.",
        "",
    ]
    properties: dict[str, Any] = {}
    for name, question in asked.questions.items():
        found = options(question)
        letters = LETTERS[: len(found)]
        lines.append(f"{orjson.dumps(name).decode()}: {question.instructions}")
        lines += [f"  {letter}. {words}" for letter, words in zip(letters, found, strict=True)]
        properties[name] = {
            "type": "object",
            "properties": {
                "answer": {"type": "string", "enum": list(letters)},
                "probability": {"type": "number"},
            },
            "required": ["answer", "probability"],
            "additionalProperties": False,
        }
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    names = sum(len(name) for name in properties)
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "\n".join(lines)},
            {"role": "user", "content": f"The conversation:\n\n{asked.state}"},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answers", "strict": True, "schema": schema},
        },
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "max_completion_tokens": TOKENS_EACH * len(properties) + names + 64,
    }
    if model.startswith(("openai/gpt-5.", "openai/gpt-6")):
        body["reasoning_effort"] = "none"  # a caller waits
    return body


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    begins: int
    others: Sequence[Mapping[str, Any]]


def answers(asked: Asked, completion: Mapping[str, Any], request_id: str) -> bytes:
    """The answer to the client, from a whole chat completion."""
    choice = _first(completion.get("choices"))
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    said = _object(text)
    tokens = _tokens(choice.get("logprobs"), text)
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    found = {
        name: _answer(question, said.get(name), _chosen_at(name, text, tokens))
        for name, question in asked.questions.items()
    }
    return orjson.dumps(
        {
            "answers": found,
            "model": asked.model,
            "usage": {
                "input_tokens": _count(usage.get("prompt_tokens")),
                "output_tokens": _count(usage.get("completion_tokens")),
            },
            "id": request_id,
        }
    )


def error(failure: Failure) -> bytes:
    """A failure, in the form that the client reads."""
    return orjson.dumps({"type": failure.kind.value, "error": failure.message, "hint": ""})


def _first(choices: Any) -> Mapping[str, Any]:
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return {}


def _object(text: Any) -> Mapping[str, Any]:
    try:
        said = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _tokens(logprobs: Any, text: Any) -> list[_Token]:
    """The tokens of the answer, where the vendor told them and they make up the text."""
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(entries, list):
        return []
    tokens, at = [], 0
    for entry in entries:
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str):
            return []
        others = entry.get("top_logprobs")
        tokens.append(_Token(token, at, others if isinstance(others, list) else ()))
        at += len(token)
    return tokens if "".join(token.text for token in tokens) == text else []


def _chosen_at(name: str, text: Any, tokens: Sequence[_Token]) -> _Token | None:
    """The token with the letter that answers the question `name`."""
    if not tokens or not isinstance(text, str):
        return None
    at = text.find(orjson.dumps(name).decode())
    at = text.find('"answer"', at) if at >= 0 else -1
    at = text.find('"', text.find(":", at)) + 1 if at >= 0 else 0
    if at <= 0:
        return None
    return next((one for one in tokens if one.begins <= at < one.begins + len(one.text)), None)


def _answer(question: Noul | Choice | Score, said: Any, chosen: _Token | None) -> dict[str, Any]:
    count = len(options(question))
    letter = said.get("answer") if isinstance(said, dict) else None
    if not isinstance(letter, str) or len(letter) != 1 or letter not in LETTERS[:count]:
        return {"type": "refusal"}
    index = LETTERS.index(letter)
    shares = _by_logprobs(chosen, count)
    source = "logprobs"
    if shares is None or shares[index] <= 0:
        shares, source = _stated(said.get("probability"), index, count), "stated"
    told: dict[str, Any] = {"confidence": max(shares), "source": source}
    match question:
        case Noul():
            return {"type": "noul", "noul": shares[0], **told}
        case Choice(criteria=criteria):
            by_name = dict(zip(criteria, shares, strict=True))
            return {
                "type": "choice",
                "choice": [*criteria][index],
                "probabilities": by_name,
                **told,
            }
        case Score(criteria=levels):
            return {
                "type": "score",
                "score": sum(level * share for level, share in enumerate(shares)),
                "probabilities": {str(level): share for level, share in enumerate(shares)},
                "legend": levels,
                **told,
            }


def _by_logprobs(chosen: _Token | None, count: int) -> list[float] | None:
    """Shares of the options: what the model gave to each letter in place of the one it chose."""
    if chosen is None:
        return None
    shares = [0.0] * count
    for other in chosen.others:
        token, logprob = (
            (other.get("token"), other.get("logprob")) if isinstance(other, dict) else (None, None)
        )
        if not isinstance(token, str) or not isinstance(logprob, int | float):
            continue
        letter = token.strip().strip('"')
        if len(letter) == 1 and letter in LETTERS[:count]:
            shares[LETTERS.index(letter)] += math.exp(min(0.0, logprob))
    whole = sum(shares)
    return [share / whole for share in shares] if whole > 0 else None


def _stated(probability: Any, index: int, count: int) -> list[float]:
    """Shares of the options by the model's word: the rest is the others', alike."""
    is_number = isinstance(probability, int | float) and math.isfinite(probability)
    sure = min(max(float(probability), 0.0), 1.0) if is_number else 1.0
    rest = (1.0 - sure) / (count - 1)
    return [sure if i == index else rest for i in range(count)]

"""A session whose key has limits: each utterance is admitted, per plan."""

import json
from typing import Any

from gateway.conversations.tts.actions import (
    Action,
    Admit,
    Admitted,
    Begin,
    Close,
    Say,
    SendToClient,
    Spoke,
    Spoken,
    Tried,
)
from gateway.conversations.tts.session import TtsSession
from gateway.routing.breaker import Breaker
from gateway.settings.tts import TtsConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ClientLeft, Text
from gateway.upstreams.tts import Audio, Failed, Finished
from tests.conversations.tts.test_session import TRAITS, plan_of, tone

USED_UP = Failure(Kind.QUOTA, "the quota of this API key is used up: 10 characters a day")


class Charged:
    """A session with limits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = TtsSession(
            "s1",
            plan_of,
            TRAITS,
            Breaker(),
            TtsConfig(rounds=1),
            "acme/one",
            600.0,
            0.0,
            charged=True,
        )
        self.log: list[Action] = []
        self.say({"type": "session.create"})

    def handle(self, event: Any) -> list[Action]:
        self.now += 0.1
        actions = self.session.handle(event, self.now)
        self.log += actions
        return actions

    def say(self, message: dict[str, Any]) -> list[Action]:
        return self.handle(Text(json.dumps(message)))

    def text(self, text: str, **more: Any) -> list[Action]:
        return self.say({"type": "input_transcript", "transcript": text, **more})

    def of(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.log if isinstance(action, kind)]

    def admit(self) -> list[Action]:
        return self.handle(Admitted(self.of(Admit)[-1].plan))


def test_a_text_waits_for_the_quota_and_those_behind_it_too() -> None:
    call = Charged()
    (asked,) = [a for a in call.text("One. ") if isinstance(a, Admit)]
    assert (asked.asked, asked.count, asked.chars) == ("acme/one", True, 5)
    assert call.text("Two. ") == []
    call.say({"type": "session.flush"})
    assert not call.of(Begin)
    call.admit()
    assert [one.text for one in call.of(Say)] == ["One. ", "Two. "]
    assert len(call.of(Admit)) == 1


def test_an_utterance_is_refused_before_it_begins_with_words_and_a_code() -> None:
    call = Charged()
    call.text("One. ")
    told = call.handle(Admitted(USED_UP))
    error = json.loads(next(a.text for a in told if isinstance(a, SendToClient)))
    assert (error["type"], error["code"]) == ("error", 429)
    assert "10 characters a day" in error["message"]
    assert [type(a) for a in told if isinstance(a, Close)] == [Close]
    assert not call.of(Begin)


def test_another_model_in_the_middle_is_asked_for_too_but_is_no_new_request() -> None:
    call = Charged()
    call.text("One. ")
    call.admit()
    call.text("Two. ", generation_config={"model": "zeus/two"})
    asked = call.of(Admit)[-1]
    assert (asked.asked, asked.count) == ("zeus/two", False)
    assert [one.text for one in call.of(Say)] == ["One. "]
    call.admit()
    call.handle(Spoke(1, Audio(tone(0.2))))
    call.handle(Spoke(1, Finished()))
    assert [one.text for one in call.of(Say)] == ["One. ", "Two. "]


def test_each_utterance_is_a_new_request() -> None:
    call = Charged()
    for number in (1, 2):
        call.text("One. ")
        call.admit()
        call.say({"type": "session.flush"})
        call.handle(Spoke(number, Audio(tone(0.2))))
        call.handle(Spoke(number, Finished()))
    assert [one.count for one in call.of(Admit)] == [True, True]


def test_tries_say_what_they_were_given_and_whether_it_is_billed() -> None:
    call = Charged()
    call.text("One two. ")
    call.admit()
    call.handle(Spoke(1, Audio(tone(0.5))))
    call.handle(ClientLeft())
    (left,) = call.of(Tried)
    assert (left.chars, left.audio_s, left.is_billed) == (9, 0.5, True)
    assert [one.chars for one in call.of(Spoken)] == [9]


def test_who_failed_without_a_sound_is_not_billed() -> None:
    call = Charged()
    call.text("One two. ")
    call.admit()
    call.handle(Spoke(1, Failed(Failure(Kind.OVERLOADED, "no"))))
    (failed,) = call.of(Tried)
    assert not failed.is_billed


def test_a_client_that_leaves_while_it_waits_is_let_go() -> None:
    call = Charged()
    call.text("One. ")
    call.handle(ClientLeft())
    assert call.admit() == []

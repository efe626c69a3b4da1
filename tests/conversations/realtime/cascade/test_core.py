"""The cascade as its client and its parts meet it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.conversations.realtime.cascade import history
from gateway.conversations.realtime.cascade.core import NOTHING_SAID, WORDS_S_MAX
from gateway.conversations.realtime.cascade.parts import (
    AskInterruption,
    AskModel,
    AskTurn,
    Finalize,
    Finalized,
    Guessed,
    Hear,
    Heard,
    HearingFailed,
    Interrupts,
    Listen,
    ModelDone,
    ModelFailed,
    ModelSaid,
    SaidAll,
    Say,
    SpokeWords,
    StopModel,
    StopSaying,
    Trouble,
    TurnEnds,
    VoiceDone,
    VoiceFailed,
)
from gateway.upstreams.events import Text
from tests.conversations.realtime.cascade.play import Play

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
HEARD = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}


def call(index: int, name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {
        "tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]
    }


# -- a turn and its answer


def test_a_turn_is_heard_answered_and_told_in_the_protocols_order() -> None:
    play = Play()
    play.updates(**HEARD)
    play.forget()
    play.speaks("What time is it?")
    play.model("It is noon.")
    play.voice(1.0)
    assert play.kinds() == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    response = play.only("response.done")["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["transcript"] == "It is noon."
    assert response["usage"]["total_tokens"] == 17
    completed = play.only("conversation.item.input_audio_transcription.completed")
    assert completed["transcript"] == "What time is it?"


def test_the_model_is_sent_what_was_said() -> None:
    play = Play(instructions="Be brief.")
    play.speaks("Hello?")
    play.answers("Hi there.", 0.5)
    play.hears(1.0, 0.0)
    play.speaks("Who are you?")
    assert play.asked.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi there."},
        {"role": "user", "content": "Who are you?"},
    ]


def test_the_voice_begins_with_the_first_clause_while_the_model_still_writes() -> None:
    play = Play()
    play.speaks("Tell me.")
    play.model("Well, as I said, ", "it was long ago. And ", done=False)
    assert [one.text for one in play.all(Say)] == ["Well, as I said, "]
    play.voice(0.8, done=False)
    assert play.kinds()[-1] == "response.output_audio.delta"
    play.model("then it ended.")
    assert play.said == "Well, as I said, it was long ago. And then it ended."
    assert len(play.all(SaidAll)) == 1


def test_the_audio_is_passed_on_as_it_came() -> None:
    play = Play()
    play.speaks("Hello?")
    play.model("Hello.")
    play.voice(0.5)
    audio = base64.b64decode(play.only("response.output_audio.delta")["delta"])
    assert audio == bytes(24_000)


def test_noise_is_no_turn_that_is_answered() -> None:
    play = Play()
    play.speaks("")
    assert play.of("input_audio_buffer.committed")
    assert not play.all(AskModel)


def test_a_click_is_no_speech() -> None:
    play = Play()
    play.hears(0.03, 1.0)
    play.hears(1.0, 0.0)
    assert not play.of("input_audio_buffer.speech_started")


def test_create_response_of_false_leaves_the_answer_to_the_client() -> None:
    play = Play()
    play.turns(type="server_vad", create_response=False)
    play.speaks("Hello?")
    assert not play.of("response.created")
    play.says("response.create")
    assert play.of("response.created")
    assert play.asked.body["messages"] == [{"role": "user", "content": "Hello?"}]


def test_who_goes_on_to_speak_is_answered_once_and_whole() -> None:
    play = Play()
    began = play.input_ms
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.hears(0.5, 0.9)  # goes on before the words of the first turn have come
    play.words("I would like", began, began + 1000)
    assert not play.of("response.created")
    play.hears(0.6, 0.0)
    play.words("two of them.", began + 1600, began + 2100)
    assert [m["content"] for m in play.asked.body["messages"]] == ["I would like", "two of them."]
    assert len(play.all(AskModel)) == 1


def test_who_speaks_before_the_answer_is_heard_takes_it_back() -> None:
    play = Play()
    play.speaks("I would like")
    play.model("You would", done=False)
    play.hears(0.2, 0.9)
    assert play.only("response.done")["response"]["status_details"]["reason"] == "turn_detected"
    assert play.all(StopModel)
    play.hears(0.6, 0.0)
    play.words("tea.", play.input_ms - 800, play.input_ms - 600)
    assert [m["content"] for m in play.asked.body["messages"] if m["role"] == "user"] == [
        "I would like",
        "tea.",
    ]


def test_words_that_come_late_are_not_waited_for_without_end() -> None:
    play = Play()
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.happens(Heard("Hello", 100.0, 500.0))
    before = play.now
    play.deadline()
    assert play.now <= before + WORDS_S_MAX
    assert play.asked.body["messages"] == [{"role": "user", "content": "Hello"}]
    # the recogniser's answer to the first is not taken for that to the second
    play.answers("Yes?", 0.1)
    play.hears(1.0, 0.0)
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.happens(Finalized())
    assert len(play.all(AskModel)) == 1
    play.words("Again", play.input_ms - 1500, play.input_ms - 700)
    assert len(play.all(AskModel)) == 2


def test_words_that_come_after_all_waiting_are_answered_all_the_same() -> None:
    play = Play()
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.deadline()
    assert play.all(AskModel) == []
    play.happens(Heard("Hello", 100.0, 900.0))
    assert play.asked.body["messages"] == [{"role": "user", "content": "Hello"}]


def test_words_of_what_is_said_now_are_not_those_of_the_turn_before() -> None:
    play = Play()
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.deadline()
    play.hears(1.0, 0.9)
    play.happens(Heard("Hello", 1700.0, 2300.0))
    assert play.all(AskModel) == []


def test_words_that_reach_to_the_end_of_the_speech_are_not_waited_for_longer() -> None:
    play = Play()
    play.hears(1.0, 0.9)
    play.happens(Guessed(300.0), Heard("One two.", 0.0, 900.0))
    play.hears(0.6, 0.0)
    assert play.asked.body["messages"] == [{"role": "user", "content": "One two."}]
    play.answers("Three.", 0.1)
    play.happens(Finalized())  # of the first turn, and of no other
    play.hears(2.0, 0.0)
    play.hears(1.0, 0.9)
    play.happens(Heard("Four", 3500.0, 3900.0), Guessed(4500.0))
    play.hears(0.6, 0.0)
    assert len(play.all(AskModel)) == 1  # more is being recognised
    play.happens(Heard("five.", 4000.0, play.input_ms - 600))
    assert play.asked.body["messages"][-1] == {"role": "user", "content": "Four five."}


# -- the client commits


def test_without_turn_detection_the_client_commits_and_asks() -> None:
    play = Play()
    play.turns()
    assert play.last(Listen).speech is False
    play.hears(1.0, 0.9)
    play.says("input_audio_buffer.commit")
    play.says("response.create", response={"metadata": {"client_event_id": "e1"}})
    created = play.only("response.created")
    assert created["response"]["metadata"] == {"client_event_id": "e1"}
    assert not play.all(AskModel)  # the words are not there yet
    play.words("One two", 0.0, 900.0)
    assert play.asked.body["messages"] == [{"role": "user", "content": "One two"}]


def test_nothing_to_commit_is_told_as_openai_tells_it() -> None:
    play = Play()
    play.turns()
    play.hears(0.064, 0.9)
    play.says("input_audio_buffer.commit", event_id="mine")
    error = play.only("error")["error"]
    assert error["code"] == "input_audio_buffer_commit_empty"
    assert error["event_id"] == "mine"


def test_cleared_audio_is_in_no_turn() -> None:
    play = Play()
    play.turns()
    play.hears(1.0, 0.9)
    play.happens(Heard("Forget this", 0.0, 900.0))
    play.says("input_audio_buffer.clear")
    assert play.kinds()[-1] == "input_audio_buffer.cleared"
    play.hears(1.0, 0.9)
    play.says("input_audio_buffer.commit")
    play.words("Keep this", 1000.0, 1900.0)
    play.says("response.create")
    assert play.asked.body["messages"] == [{"role": "user", "content": "Keep this"}]


def test_a_clear_leaves_the_words_of_a_turn_that_was_committed_before_it() -> None:
    play = Play()
    play.turns()
    play.hears(2.0, 0.9)
    play.happens(Heard("I would like", 0.0, 900.0))
    play.says("input_audio_buffer.commit")
    play.hears(1.0, 0.9)
    play.happens(Heard("forget this", 2100.0, 2900.0))
    play.says("input_audio_buffer.clear")
    play.words("a table", 1000.0, 1900.0)
    play.says("response.create")
    assert play.asked.body["messages"] == [{"role": "user", "content": "I would like a table"}]


def test_turns_that_are_committed_one_after_the_other_keep_their_words_apart() -> None:
    play = Play()
    play.turns()
    for _ in range(2):
        play.hears(1.0, 0.9)
        play.says("input_audio_buffer.commit")
    assert len(play.all(Finalize)) == 2
    play.words("first", 0.0, 900.0)
    play.words("second", 1100.0, 1900.0)
    play.says("response.create")
    assert [m["content"] for m in play.asked.body["messages"]] == ["first", "second"]


# -- the model of turns


def test_a_pause_ends_a_turn_when_the_model_of_turns_says_so() -> None:
    play = Play()
    play.turns(type="semantic_vad")
    play.hears(1.0, 0.9)
    play.hears(0.3, 0.0)
    question = play.last(AskTurn)
    play.happens(TurnEnds(question.number, False))
    assert not play.of("input_audio_buffer.committed")
    play.hears(0.4, 0.0)
    again = play.last(AskTurn)
    assert again.number != question.number
    play.happens(TurnEnds(again.number, True))
    assert play.of("input_audio_buffer.committed")


def test_what_the_model_of_turns_says_of_a_pause_that_is_over_counts_no_more() -> None:
    play = Play()
    play.turns(type="semantic_vad")
    play.hears(1.0, 0.9)
    play.hears(0.3, 0.0)
    question = play.last(AskTurn)
    play.hears(0.1, 0.9)
    play.happens(TurnEnds(question.number, True))
    assert not play.of("input_audio_buffer.committed")


@pytest.mark.parametrize(("eagerness", "waits_s"), [("high", 2.0), ("auto", 4.0), ("low", 8.0)])
def test_a_long_silence_ends_a_turn_whatever_that_model_says(
    eagerness: str, waits_s: float
) -> None:
    play = Play()
    play.turns(type="semantic_vad", eagerness=eagerness)
    play.hears(1.0, 0.9)
    play.hears(waits_s - 0.1, 0.0)
    assert not play.of("input_audio_buffer.committed")
    play.hears(0.2, 0.0)
    assert play.of("input_audio_buffer.committed")


def test_without_that_model_silences_end_turns() -> None:
    play = Play()
    play.turns(type="semantic_vad")
    play.hears(1.0, 0.9)
    play.hears(0.3, 0.0)
    play.happens(TurnEnds(play.last(AskTurn).number, None))
    play.hears(0.6, 0.0)
    assert play.of("input_audio_buffer.committed")
    play.forget()
    play.hears(1.0, 0.9)
    play.hears(0.9, 0.0)
    assert play.of("input_audio_buffer.committed")
    assert not play.all(AskTurn)


# -- interruptions


def spoken_to(play: Play, text: str = "One two three four five six.", seconds: float = 6.0) -> None:
    """The caller hears a response, of which a second has passed."""
    play.speaks("Count.")
    play.answers(text, seconds)
    play.hears(1.0, 0.0)
    play.forget()


def test_a_backchannel_leaves_no_trace() -> None:
    play = Play()
    spoken_to(play)
    play.hears(0.4, 0.9)
    for question in play.all(AskInterruption):
        play.happens(Interrupts(question.number, False))
    play.hears(0.6, 0.0)
    assert play.all(AskInterruption)
    assert not play.told
    play.happens(Heard("Mhm.", play.input_ms - 1000, play.input_ms - 600))
    play.hears(6.0, 0.0)
    play.speaks("And seven?")
    assert play.asked.body["messages"][-1] == {"role": "user", "content": "And seven?"}


def test_a_backchannel_is_over_after_half_a_second_however_long_turns_may_pause() -> None:
    play = Play()
    play.turns(type="semantic_vad")
    play.speaks("Count.", silence_s=4.1)
    play.answers("One two three four five six.", 6.0)
    play.hears(1.0, 0.0)
    play.forget()
    play.hears(0.4, 0.9)
    play.hears(0.6, 0.0)
    asked = len(play.all(AskInterruption))
    play.happens(Interrupts(play.last(AskInterruption).number, False))
    play.hears(4.5, 0.0)
    assert len(play.all(AskInterruption)) == asked
    assert not play.told


def test_an_interruption_ends_the_speech_and_leaves_what_was_heard() -> None:
    play = Play()
    play.speaks("Count.")
    play.model("One two three four five six.", done=False)
    play.model(" Seven eight.")
    number = play.last(Say).number
    play.voice(6.0, done=False)
    words = "One two three four five six".split()
    play.happens(SpokeWords(number, tuple((w, float(i), i + 0.9) for i, w in enumerate(words))))
    play.hears(2.0, 0.0)
    play.forget()
    play.hears(0.3, 0.9)
    assert not play.told
    play.happens(Interrupts(play.last(AskInterruption).number, True))
    assert play.kinds()[0] == "input_audio_buffer.speech_started"
    assert play.all(StopSaying)
    response = play.only("response.done")["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"]["reason"] == "turn_detected"
    assert 2200 <= play.only("conversation.item.truncated")["audio_end_ms"] <= 2400
    play.hears(0.6, 0.0)
    play.words("Stop.", play.input_ms - 900, play.input_ms - 600)
    assert play.asked.body["messages"][-2:] == [
        {"role": "assistant", "content": "One two"},
        {"role": "user", "content": "Stop."},
    ]


def test_a_response_that_is_made_but_still_heard_is_truncated() -> None:
    play = Play()
    spoken_to(play)
    play.hears(0.2, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, True))
    assert play.kinds() == ["input_audio_buffer.speech_started", "conversation.item.truncated"]


def test_the_model_of_interruptions_is_asked_ten_times_a_second_and_never_twice_at_once() -> None:
    play = Play()
    spoken_to(play)
    play.hears(0.5, 0.9)
    assert len(play.all(AskInterruption)) == 1
    for _ in range(5):
        play.happens(Interrupts(play.last(AskInterruption).number, False))
        play.hears(0.128, 0.9)
    assert len(play.all(AskInterruption)) == 6
    begins = {question.since_ms for question in play.all(AskInterruption)}
    assert len(begins) == 1  # the window grows


def test_who_still_speaks_when_the_response_is_over_has_the_floor() -> None:
    play = Play()
    spoken_to(play, seconds=1.5)
    play.hears(0.2, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, False))
    assert not play.told
    play.hears(1.0, 0.9)
    assert play.kinds()[0] == "input_audio_buffer.speech_started"


def test_who_answers_over_the_end_of_a_response_is_heard() -> None:
    play = Play()
    spoken_to(play, seconds=3.0)
    play.hears(0.4, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, False))
    began = play.input_ms - 400
    play.hears(0.6, 0.0)
    assert not play.told  # the response is spoken to its end
    play.hears(1.6, 0.0)
    assert play.kinds()[:3] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    play.words("Yes.", began, began + 400)
    assert play.asked.body["messages"][-1] == {"role": "user", "content": "Yes."}


def test_without_the_model_of_interruptions_whoever_speaks_interrupts() -> None:
    play = Play()
    spoken_to(play)
    play.hears(0.2, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, None))
    assert not play.told  # once it may have been too busy
    play.hears(0.2, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, None))
    assert play.kinds() == ["input_audio_buffer.speech_started", "conversation.item.truncated"]


def test_interrupt_response_of_false_lets_a_response_be_spoken_to_its_end() -> None:
    play = Play()
    play.turns(type="server_vad", interrupt_response=False)
    play.speaks("Count.")
    play.model("One two three four five six. ", done=False)
    number = play.asked.number
    play.told.clear()
    began = play.input_ms
    play.hears(0.5, 0.9)
    play.hears(0.6, 0.0)
    play.words("Also seven.", began, began + 500)
    assert "input_audio_buffer.speech_started" in play.kinds()
    assert not play.of("response.done")
    play.happens(ModelDone(number))
    play.voice(1.0)
    assert play.of("response.done")[0]["response"]["status"] == "completed"
    assert play.of("response.created")  # and then this is answered


# -- responses


def test_text_alone_is_written_and_not_spoken() -> None:
    play = Play()
    play.updates(output_modalities=["text"])
    play.speaks("Hello?")
    play.model("Hi ", "there.")
    assert not play.all(Say)
    assert [one["delta"] for one in play.of("response.output_text.delta")] == ["Hi ", "there."]
    assert play.only("response.output_text.done")["text"] == "Hi there."
    output = play.only("response.done")["response"]["output"]
    assert output[0]["content"] == [{"type": "output_text", "text": "Hi there."}]


def test_a_function_is_called_and_its_output_goes_on() -> None:
    play = Play()
    play.updates(tools=[TOOL], tool_choice={"type": "function", "name": "weather"})
    play.speaks("Is it raining in Oslo?")
    assert play.asked.body["tools"][0]["function"]["name"] == "weather"
    assert play.asked.body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    more = {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}
    play.model(call(0, "weather", '{"city":'), more)
    done = play.only("response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("weather", '{"city":"Oslo"}')
    (item,) = play.only("response.done")["response"]["output"]
    assert (item["type"], item["call_id"], item["status"]) == (
        "function_call",
        "call_1",
        "completed",
    )
    play.says(
        "conversation.item.create",
        item={"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    )
    play.says("response.create")
    assert play.asked.body["messages"][-2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]


def test_a_call_without_an_output_is_not_sent_to_the_model() -> None:
    play = Play()
    play.updates(tools=[TOOL])
    play.speaks("Rain?")
    play.model(call(0, "weather", "{}"))
    play.speaks("Never mind.")
    roles = [message["role"] for message in play.asked.body["messages"]]
    assert roles == ["user", "user"]


def test_a_long_id_of_a_call_is_replaced() -> None:
    play = Play()
    play.updates(tools=[TOOL])
    play.speaks("Rain?")
    play.model(call(0, "weather", "{}", "c" * 40))
    (item,) = play.only("response.done")["response"]["output"]
    assert 0 < len(item["call_id"]) <= 32


def test_a_second_response_at_a_time_is_refused() -> None:
    play = Play()
    play.says("response.create")
    play.says("response.create", event_id="second")
    error = play.only("error")["error"]
    assert error["code"] == "conversation_already_has_active_response"
    assert error["event_id"] == "second"


def test_a_response_may_have_instructions_and_tools_of_its_own() -> None:
    play = Play(instructions="Be brief.")
    play.says("response.create", response={"instructions": "Be long.", "tools": [TOOL]})
    assert play.asked.body["messages"] == [{"role": "system", "content": "Be long."}]
    assert play.asked.body["tools"]
    play.answers("A long one.", 0.1)
    play.says("response.create")
    assert play.asked.body["messages"][0]["content"] == "Be brief."
    assert "tools" not in play.asked.body


def test_a_response_outside_of_the_conversation_is_in_no_history() -> None:
    play = Play()
    play.says(
        "response.create",
        response={
            "conversation": "none",
            "output_modalities": ["text"],
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Sum up."}],
                }
            ],
        },
    )
    assert play.asked.body["messages"] == [{"role": "user", "content": "Sum up."}]
    play.model("Done.")
    assert not play.of("conversation.item.added")
    assert play.only("response.done")["response"]["conversation_id"] is None


def test_who_has_said_nothing_is_greeted() -> None:
    play = Play()
    play.says("response.create")
    assert play.asked.body["messages"] == [{"role": "system", "content": NOTHING_SAID}]


def test_a_cancelled_response_is_told_as_that() -> None:
    play = Play()
    play.says("response.create")
    play.model("One two three, ", "four", done=False)
    play.says("response.cancel")
    response = play.only("response.done")["response"]
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert play.all(StopModel)
    assert play.all(StopSaying)
    play.forget()
    play.happens(ModelSaid(play.cascade._numbers, {"choices": [{"delta": {"content": "late"}}]}))
    assert not play.told


def test_a_cancellation_of_nothing_is_told_in_openais_words() -> None:
    play = Play()
    play.says("response.cancel")
    error = play.only("error")["error"]
    assert error["message"].startswith("Cancellation failed")
    assert error["code"] == "response_cancel_not_active"


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_off_is_incomplete(finish: str, reason: str) -> None:
    play = Play()
    play.updates(output_modalities=["text"], max_output_tokens=3)
    play.says("response.create")
    assert play.asked.body["max_completion_tokens"] == 3
    play.model("One", done=False)
    number = play.asked.number
    play.happens(ModelSaid(number, {"choices": [{"delta": {}, "finish_reason": finish}]}))
    play.happens(ModelDone(number))
    response = play.only("response.done")["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("incomplete", reason)


# -- what fails


@pytest.mark.parametrize("part", [ModelFailed, VoiceFailed])
def test_a_part_that_fails_fails_the_response_and_not_the_session(part: Any) -> None:
    play = Play()
    play.says("response.create")
    play.model("One two three, ", "four", done=False)
    number = play.asked.number
    play.happens(part(number, Trouble("it is down", "upstream_unreachable")))
    assert play.only("error")["error"]["message"] == "it is down"
    response = play.only("response.done")["response"]
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["code"] == "upstream_unreachable"
    play.says("response.create")
    play.answers("Here I am again.", 0.1)
    assert play.of("response.done")[-1]["response"]["status"] == "completed"


def test_a_recogniser_that_fails_is_told_for_each_turn_that_waited() -> None:
    play = Play()
    play.hears(1.0, 0.9)
    play.hears(0.6, 0.0)
    play.happens(HearingFailed(Trouble("it is down", "upstream_timeout")))
    failed = play.only("conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "upstream_timeout"
    play.speaks("Again.")
    assert play.asked.body["messages"] == [{"role": "user", "content": "Again."}]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{", "not JSON"),
        ('{"type": "session.create"}', "type"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "audio"),
        ('{"type": "conversation.item.create", "item": {"type": "message"}}', "item.role"),
        ('{"type": "conversation.item.delete", "item_id": "nobody"}', "item_id"),
        ('{"type": "conversation.item.retrieve", "item_id": "nobody"}', "item_id"),
        (
            '{"type": "session.update", "session": {"tools": [{"type": "mcp"}]}}',
            "session.tools.0.type",
        ),
        ('{"type": "session.update", "session": {"type": "transcription"}}', "session.type"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"format": "mp3"}}}}',
            "session.audio.input.format",
        ),
    ],
)
def test_a_mistake_of_the_client_is_named_and_ends_nothing(text: str, names: str) -> None:
    play = Play()
    play.happens(Text(text))
    error = play.only("error")["error"]
    assert error["type"] == "invalid_request_error"
    assert names in error["message"]
    play.speaks("Hello?")
    assert play.all(AskModel)


# -- items


def test_items_stand_where_the_client_wants_them() -> None:
    play = Play()

    def create(name: str, after: str | None) -> None:
        content = [{"type": "input_text", "text": name}]
        item = {"id": name, "type": "message", "role": "user", "content": content}
        play.says("conversation.item.create", previous_item_id=after, item=item)

    create("b", None)
    create("a", "root")
    create("c", "b")
    create("d", "nobody")
    assert play.only("error")["error"]["code"] == "item_not_found"
    assert [one["previous_item_id"] for one in play.of("conversation.item.added")] == [
        None,
        None,
        "b",
    ]
    create("c", None)
    assert play.of("error")[-1]["error"]["code"] == "item_create_duplicate_item_id"
    play.says("conversation.item.delete", item_id="b")
    play.says("response.create")
    assert [message["content"] for message in play.asked.body["messages"]] == ["a", "c"]


def test_the_first_item_of_a_full_conversation_is_deleted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "ITEMS_MAX", 2)
    play = Play()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    for name in "abc":
        play.says("conversation.item.create", previous_item_id="root", item={**item, "id": name})
    assert play.only("conversation.item.deleted")["item_id"] == "c"
    assert len(play.of("conversation.item.done")) == 2


def test_the_client_truncates_what_its_listener_has_not_heard() -> None:
    play = Play()
    spoken_to(play, "One two three four five six.", 6.0)
    play.hears(8.0, 0.0)
    item_id = next(item.id for item in play.cascade._history if item.role == "assistant")
    play.says("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=3000)
    assert play.only("conversation.item.truncated")["audio_end_ms"] == 3000
    play.says("conversation.item.retrieve", item_id=item_id)
    item = play.only("conversation.item.retrieved")["item"]
    assert item["content"][0]["transcript"] == "One two three"
    play.says("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=60_000)
    assert "already shorter" in play.only("error")["error"]["message"]


def test_what_the_client_says_was_heard_counts_more_than_what_we_reckon() -> None:
    play = Play()
    spoken_to(play, "One two three four five six.", 6.0)
    play.hears(0.2, 0.9)
    play.happens(Interrupts(play.last(AskInterruption).number, True))
    truncated = play.only("conversation.item.truncated")
    play.says(
        "conversation.item.truncate",
        item_id=truncated["item_id"],
        content_index=0,
        audio_end_ms=4000,
    )
    play.says("conversation.item.retrieve", item_id=truncated["item_id"])
    item = play.only("conversation.item.retrieved")["item"]
    assert item["content"][0]["transcript"] == "One two three four"


# -- formats and settings


def test_telephone_audio_is_heard_and_spoken() -> None:
    play = Play()
    play.updates(
        audio={
            "input": {"format": {"type": "audio/pcmu"}},
            "output": {"format": {"type": "audio/pcma"}},
        }
    )
    audio = base64.b64encode(b"\xff" * 800).decode()
    play.says("input_audio_buffer.append", audio=audio)
    assert play.last(Hear) == Hear(bytes(1600), 8000)
    play.says("response.create")
    play.model("Hello.")
    assert play.last(Say).rate == 8000
    play.voice(0.1, rate=8000)
    assert base64.b64decode(play.only("response.output_audio.delta")["delta"]) == b"\xd5" * 800


def test_the_beta_form_of_a_session_is_understood() -> None:
    play = Play()
    play.says(
        "session.update",
        session={
            "modalities": ["text"],
            "instructions": "Be brief.",
            "voice": "ash",
            "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_alaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "de"},
            "turn_detection": None,
            "temperature": 0.7,
            "max_response_output_tokens": "inf",
        },
    )
    session = play.only("session.updated")["session"]
    assert session["output_modalities"] == ["text"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert session["audio"]["output"]["format"] == {"type": "audio/pcma"}
    assert session["audio"]["input"]["turn_detection"] is None
    assert play.last(Listen) == Listen(speech=False, language="de", voice_rate=None)
    play.says("response.create")
    assert play.asked.body["temperature"] == 0.7


def test_what_a_session_update_does_not_say_stays_as_it_is() -> None:
    play = Play()
    play.updates(instructions="Be brief.", **HEARD)
    play.updates(tools=[TOOL])
    session = play.of("session.updated")[-1]["session"]
    assert session["instructions"] == "Be brief."
    assert session["audio"]["input"]["transcription"] == {"model": "whisper-1"}
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"


@pytest.mark.parametrize(
    ("voice", "asked"), [("marin", None), ("nova", None), ("af_heart", "af_heart")]
)
def test_a_voice_of_openais_stands_for_the_cascades_own(voice: str, asked: str | None) -> None:
    play = Play()
    play.updates(audio={"output": {"voice": voice}})
    play.says("response.create")
    play.model("Hello.")
    assert play.last(Say).voice == asked


def test_a_session_may_end_only_when_nobody_speaks() -> None:
    play = Play()
    assert play.cascade.may_end(play.now)
    play.hears(0.5, 0.9)
    assert not play.cascade.may_end(play.now)
    play.hears(0.6, 0.0)
    play.words("Hello?", 0.0, 500.0)
    assert not play.cascade.may_end(play.now)
    play.answers("Hello.", 2.0)
    assert not play.cascade.may_end(play.now)
    assert play.cascade.may_end(play.now + 3.0)


def test_the_end_of_a_voice_alone_ends_no_response() -> None:
    play = Play()
    play.says("response.create")
    play.model("One two three, ", "four", done=False)
    play.happens(VoiceDone(play.asked.number))
    assert not play.of("response.done")

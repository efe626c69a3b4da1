"""Every option that the clients' typed options name reaches its provider under its name there."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.stt import Recognizer
from tests.providers.recognizers import recognizer, upstream


def asked(one: Recognizer) -> dict[str, Any]:
    """Settings as the provider gets them: of the query, or of the first message."""
    dial = one.dial()
    assert isinstance(dial, Dial)
    found: dict[str, Any] = {}
    for name, values in parse_qs(urlsplit(dial.url).query, keep_blank_values=True).items():
        found[name] = values if len(values) > 1 else values[0]
    for frame in one.opening():
        found |= json.loads(frame)
    return found


def inside(found: dict[str, Any], path: str) -> Any:
    value: Any = found
    for name in path.split("."):
        value = value[name]
    return value


RT = "transcription_config"
OA = "session.audio.input"

# vendor, model, the client's option and value, where it is found, as what
OPTIONS: list[tuple[str, str, str, Any, str, Any]] = [
    ("deepgram", "nova-3", "filler_words", False, "filler_words", "false"),
    ("deepgram", "nova-3", "interim_results", False, "interim_results", "false"),
    ("deepgram", "nova-3", "endpointing", 300, "endpointing", "300"),
    ("deepgram", "nova-3", "endpointing", 0, "endpointing", "false"),
    ("deepgram", "nova-3", "punctuate", False, "punctuate", "false"),
    ("deepgram", "nova-3", "smart_format", True, "smart_format", "true"),
    ("deepgram", "nova-2", "keywords", [["Parley", 1.5]], "keywords", "Parley:1.5"),
    ("deepgram", "nova-3", "keyterm", ["a b", "c"], "keyterm", ["a b", "c"]),
    ("deepgram", "nova-3", "keyterm", "one", "keyterm", "one"),
    ("deepgram", "nova-3", "profanity_filter", True, "profanity_filter", "true"),
    ("deepgram", "nova-3", "numerals", True, "numerals", "true"),
    ("deepgram", "nova-3", "mip_opt_out", True, "mip_opt_out", "true"),
    ("deepgram", "nova-3", "vad_events", True, "vad_events", "true"),
    ("deepgram", "nova-3", "diarize", True, "diarize", "true"),
    ("deepgram", "nova-3", "dictation", True, "dictation", "true"),
    ("deepgram", "nova-3", "no_delay", False, "no_delay", "false"),
    ("deepgram", "nova-3", "utterance_end", True, "utterance_end_ms", "1000"),
    ("deepgram", "nova-3", "redact", ["pci", "ssn"], "redact", ["pci", "ssn"]),
    ("deepgram", "nova-3", "replace", "a:b", "replace", "a:b"),
    ("deepgram", "nova-3", "search", "x", "search", "x"),
    ("deepgram", "nova-3", "tag", "t", "tag", "t"),
    ("deepgram", "nova-3", "version", "latest", "version", "latest"),
    ("deepgram", "nova-3", "extra", "k:v", "extra", "k:v"),
    ("deepgram", "flux-general-en", "eager_eot_threshold", 0.4, "eager_eot_threshold", "0.4"),
    ("deepgram", "flux-general-en", "eot_threshold", 0.8, "eot_threshold", "0.8"),
    ("deepgram", "flux-general-en", "eot_timeout_ms", 3000, "eot_timeout_ms", "3000"),
    ("deepgram", "flux-general-en", "keyterm", ["a"], "keyterm", "a"),
    ("deepgram", "flux-general-en", "tag", ["a"], "tag", "a"),
    ("deepgram", "flux-general-multi", "language_hint", ["de"], "language_hint", "de"),
    ("assemblyai", "universal-streaming-english", "format_turns", True, "format_turns", "true"),
    ("assemblyai", "universal-streaming-english", "end_of_turn_confidence_threshold", 0.7,
     "end_of_turn_confidence_threshold", "0.7"),
    ("assemblyai", "u3-rt-pro", "min_end_of_turn_silence_when_confident", 200,
     "min_turn_silence", "200"),
    ("assemblyai", "u3-rt-pro", "max_turn_silence", 900, "max_turn_silence", "900"),
    ("assemblyai", "u3-rt-pro", "keyterms_prompt", ["a", "b"], "keyterms_prompt", '["a","b"]'),
    ("assemblyai", "u3-rt-pro", "language_detection", False, "language_detection", "false"),
    ("assemblyai", "u3-rt-pro", "inactivity_timeout", 30.0, "inactivity_timeout", "30"),
    ("assemblyai", "u3-rt-pro", "prompt", "a hotel", "prompt", "a hotel"),
    ("assemblyai", "u3-rt-pro", "speaker_labels", True, "speaker_labels", "true"),
    ("assemblyai", "u3-rt-pro", "agent_context", "hi", "agent_context", "hi"),
    ("assemblyai", "u3-rt-pro", "previous_context_n_turns", 3, "previous_context_n_turns", "3"),
    ("assemblyai", "u3-rt-pro", "voice_focus", "near-field", "voice_focus", "near-field"),
    ("assemblyai", "u3-rt-pro", "voice_focus_threshold", 0.5, "voice_focus_threshold", "0.5"),
    ("assemblyai", "u3-rt-pro", "mode", "balanced", "mode", "balanced"),
    ("cartesia", "ink-whisper", "min_volume", 0.1, "min_volume", "0.1"),
    ("cartesia", "ink-whisper", "max_silence_duration_secs", 0.5, "max_silence_duration_secs",
     "0.5"),
    ("cartesia", "ink-2", "turn_start_threshold", 0.7, "turn_start_threshold", "0.7"),
    ("cartesia", "ink-2", "turn_eager_end_threshold", 0.5, "turn_eager_end_threshold", "0.5"),
    ("cartesia", "ink-2", "turn_end_threshold", 0.1, "turn_end_threshold", "0.1"),
    ("cartesia", "ink-2", "turn_end_timeout_ms", 2000, "turn_end_timeout_ms", "2000"),
    ("cartesia", "ink-2", "keyterm", ["a b"], "keyterm", "a b"),
    ("elevenlabs", "scribe_v2_realtime", "commit_strategy", "manual", "commit_strategy", "manual"),
    ("elevenlabs", "scribe_v2_realtime", "language_code", "de", "language_code", "de"),
    ("elevenlabs", "scribe_v2_realtime", "include_timestamps", False, "include_timestamps",
     "false"),
    ("elevenlabs", "scribe_v2_realtime", "vad_threshold", 0.5, "vad_threshold", "0.5"),
    ("elevenlabs", "scribe_v2_realtime", "vad_silence_threshold_secs", 1.0,
     "vad_silence_threshold_secs", "1.0"),
    ("speechmatics", "enhanced", "domain", "finance", f"{RT}.domain", "finance"),
    ("speechmatics", "enhanced", "output_locale", "en-GB", f"{RT}.output_locale", "en-GB"),
    ("speechmatics", "enhanced", "max_delay", 0.8, f"{RT}.max_delay", 0.8),
    ("speechmatics", "enhanced", "max_delay_mode", "fixed", f"{RT}.max_delay_mode", "fixed"),
    ("speechmatics", "enhanced", "diarization", "speaker", f"{RT}.diarization", "speaker"),
    ("speechmatics", "enhanced", "enable_partials", False, f"{RT}.enable_partials", True),
    ("speechmatics", "enhanced", "enable_entities", False, f"{RT}.enable_entities", False),
    ("speechmatics", "enhanced", "punctuation_overrides", {"sensitivity": 0.4},
     f"{RT}.punctuation_overrides.sensitivity", 0.4),
    ("speechmatics", "enhanced", "additional_vocab", [{"content": "Parley"}],
     f"{RT}.additional_vocab", [{"content": "Parley"}]),
    ("speechmatics", "enhanced", "end_of_utterance_silence_trigger", 0.5,
     f"{RT}.conversation_config.end_of_utterance_silence_trigger", 0.5),
    ("speechmatics", "enhanced", "audio_filtering_config", {"volume_threshold": 3},
     f"{RT}.audio_filtering_config.volume_threshold", 3),
    ("speechmatics", "linden-1", "transcript_filtering_config", {"remove_disfluencies": True},
     f"{RT}.transcript_filtering_config.remove_disfluencies", True),
    ("xai", "stt-1", "diarize", True, "diarize", "true"),
    ("xai", "stt-1", "endpointing", 400, "endpointing", "400"),
    ("xai", "stt-1", "format", True, "format", "true"),
    ("xai", "stt-1", "interim_results", False, "interim_results", "false"),
    ("inworld", "inworld/inworld-stt-1", "enable_voice_profile", False,
     "transcribeConfig.voiceProfileConfig.enableVoiceProfile", False),
    ("inworld", "inworld/inworld-stt-1", "voice_profile_top_n", 3,
     "transcribeConfig.voiceProfileConfig.topN", 3),
    ("inworld", "inworld/inworld-stt-1", "include_word_timestamps", False,
     "transcribeConfig.includeWordTimestamps", False),
    ("inworld", "inworld/inworld-stt-1", "audio_encoding", "AUTO_DETECT",
     "transcribeConfig.audioEncoding", "AUTO_DETECT"),
    ("inworld", "inworld/inworld-stt-1", "inactivity_timeout_seconds", 60,
     "transcribeConfig.inactivityTimeoutSeconds", 60),
    ("inworld", "inworld/inworld-stt-1", "end_of_turn_confidence_threshold", 0.3,
     "transcribeConfig.endOfTurnConfidenceThreshold", 0.3),
    ("inworld", "inworld/inworld-stt-1", "min_end_of_turn_silence_when_confident", 200,
     "transcribeConfig.inworldSttV1Config.minEndOfTurnSilenceWhenConfident", 200),
    ("inworld", "inworld/inworld-stt-1", "prompts", ["a"], "transcribeConfig.prompts", ["a"]),
    ("inworld", "inworld/inworld-stt-1", "vad_threshold", 0.4,
     "transcribeConfig.inworldSttV1Config.vadThreshold", 0.4),
    ("google", "gemini-3.5-transcribe-live", "language_codes", ["de-DE"],
     "setup.inputAudioTranscription.languageCodes", ["de-DE"]),
    ("google", "gemini-3.5-transcribe-live", "custom_vocabulary", ["a"],
     "setup.inputAudioTranscription.customVocabulary", ["a"]),
    ("openai", "gpt-live-transcribe", "languages", ["de-DE"], f"{OA}.transcription.languages",
     ["de"]),
    ("openai", "gpt-live-transcribe", "prompt", "x", f"{OA}.transcription.prompt", "x"),
    ("openai", "gpt-live-transcribe", "keywords", ["a"], f"{OA}.transcription.keywords", ["a"]),
    ("openai", "gpt-live-transcribe", "delay", "low", f"{OA}.transcription.delay", "low"),
    ("openai", "gpt-live-transcribe", "noise_reduction", "far_field",
     f"{OA}.noise_reduction.type", "far_field"),
]  # fmt: skip

SERVED = sorted({(vendor, model) for vendor, model, *_ in OPTIONS})


@pytest.mark.parametrize(("vendor", "model", "name", "value", "where", "as_what"), OPTIONS)
def test_an_option_reaches_its_provider(
    vendor: str, model: str, name: str, value: Any, where: str, as_what: Any
) -> None:
    assert upstream(vendor).check({name: value}) is None
    assert inside(asked(recognizer(vendor, model, **{name: value})), where) == as_what


@pytest.mark.parametrize(("vendor", "model"), SERVED)
def test_options_of_others_and_empty_ones_are_left_out(vendor: str, model: str) -> None:
    plain = asked(recognizer(vendor, model))
    foreign: dict[str, Any] = {
        "of_nobody": 1,
        "keyterm": [],
        "keyterms_prompt": [],
        "additional_vocab": [],
    }

    assert asked(recognizer(vendor, model, **foreign)) == plain


@pytest.mark.parametrize(
    ("vendor", "name", "value"),
    [
        ("deepgram", "endpointing", "soon"),
        ("deepgram", "keyterm", [1]),
        ("deepgram", "eot_threshold", 3),
        ("assemblyai", "mode", "fast"),
        ("cartesia", "turn_end_timeout_ms", 5),
        ("speechmatics", "max_delay", 60),
        ("xai", "diarize", "yes"),
        ("inworld", "prompts", {"a": 1}),
        ("openai", "delay", 1),
        ("google", "language_codes", 7),
    ],
)
def test_a_wrong_value_is_a_clear_error(vendor: str, name: str, value: Any) -> None:
    wrong = upstream(vendor).check({name: value})

    assert isinstance(wrong, Failure)
    assert wrong.param == f"settings.extra.{name}"
    assert "expected" in wrong.message


@pytest.mark.parametrize(("vendor", "model"), SERVED)
def test_nonsense_from_a_provider_is_never_an_exception(vendor: str, model: str) -> None:
    one = recognizer(vendor, model)
    kinds = ["Results", "TurnInfo", "Turn", "transcript", "error", "Error", "turn.update",
             "transcript.partial", "conversation.item.input_audio_transcription.delta"]  # fmt: skip
    nonsense: list[Any] = ["", "null", "[]", "7", b"\xff\x00", '{"type": null}', "{"]
    for kind in kinds:
        for name in ("type", "message", "message_type"):
            nonsense.append(json.dumps({name: kind}))
            nonsense.append(
                json.dumps(
                    {
                        name: kind, "channel": [], "words": [None, {"start": "x"}, 7],
                        "start": "a", "error": 7, "metadata": 3, "results": [None, {}],
                        "languages": [None], "transcript": 5, "text": None, "event": "EndOfTurn",
                        "segment": 1, "item_id": None, "is_final": 1,
                    }
                )
            )  # fmt: skip
    nonsense += [
        '{"result": 5}', '{"result": {"transcription": {"wordTimestamps": [1], "isFinal": true}}}',
        '{"serverContent": []}', '{"serverContent": {"inputTranscription": 5}}',
        '{"error": {"code": "x"}}', '{"goAway": {"timeLeft": 7}}',
    ]  # fmt: skip
    for frame in nonsense:
        for heard in one.decode(frame):
            assert heard is not None
    one.closed(1006, "")
    one.closed(4999, "\x00")


def test_a_callback_is_never_passed_on() -> None:
    found = asked(recognizer("deepgram", "nova-3", callback="http://10.0.0.1/", channels=2))

    assert "callback" not in found
    assert found["channels"] == "1"


def test_multi_means_what_each_provider_has_for_it() -> None:
    assert asked(recognizer("deepgram", "nova-3", "multi"))["language"] == "multi"
    assert "language_hint" not in asked(recognizer("deepgram", "flux-general-multi", "multi"))
    assert asked(recognizer("assemblyai", "u3-rt-pro", "multi"))["language_codes"] == '["multi"]'
    openai = asked(recognizer("openai", "gpt-live-transcribe", "multi"))
    assert "languages" not in inside(openai, f"{OA}.transcription")


def test_region_tags_are_left_out_where_a_provider_does_not_take_them() -> None:
    assert asked(recognizer("deepgram", "nova-3", "pt-BR"))["language"] == "pt-BR"
    assert asked(recognizer("cartesia", "ink-whisper", "pt-BR"))["language"] == "pt"
    scribe = asked(recognizer("elevenlabs", "scribe_v2_realtime", "pt-BR"))
    assert scribe["language_code"] == "pt"
    assert inside(asked(recognizer("speechmatics", "enhanced", "zh-CN")), f"{RT}.language") == "cmn"


def test_spaces_are_written_so_that_every_server_reads_them() -> None:
    dial = recognizer("cartesia", "ink-2", keyterm=["order desk"]).dial()
    assert isinstance(dial, Dial)

    assert "keyterm=order%20desk" in dial.url

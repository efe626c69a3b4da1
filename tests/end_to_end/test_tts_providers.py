"""Every provider with a socket, in every way of failing, behind the real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest

from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import opened
from tests.fakes.assemblyai_tts import FakeAssemblyAIVoice
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_tts import FakeDeepgramVoice
from tests.fakes.elevenlabs_tts import FakeElevenLabs
from tests.fakes.fishaudio_tts import FakeFishAudio
from tests.fakes.inworld_tts import FakeInworld
from tests.fakes.rime_tts import FakeRime
from tests.fakes.voices import FakeVoice, render
from tests.fakes.xai_tts import FakeXaiVoice

ONE, TWO, THREE = "Hello there my friend. ", "This is the second one. ", "Good bye then. "
LONG = ONE * 20  # some twenty seconds at the pace of speech: longer than any test waits

FAKES: dict[str, tuple[type[FakeVoice], str, str]] = {
    "cartesia": (FakeCartesia, "", "sonic-3"),
    "deepgram": (FakeDeepgramVoice, "", "aura-2"),
    "elevenlabs": (FakeElevenLabs, "", "eleven_flash_v2_5"),
    "rime": (FakeRime, "", "coda"),
    "inworld": (FakeInworld, "", "inworld-tts-1.5-max"),
    "xai": (FakeXaiVoice, "/v1", "tts-1"),
    "fishaudio": (FakeFishAudio, "", "s2.1-pro"),
    "assemblyai": (FakeAssemblyAIVoice, "", "assemblyai-tts-1"),
}
NAMES = tuple(FAKES)
TIMED = ("cartesia", "elevenlabs", "rime", "inworld", "assemblyai")


@dataclass
class Setup:
    server: Server
    fakes: dict[str, FakeVoice]
    backup: FakeCartesia

    def __getitem__(self, name: str) -> FakeVoice:
        return self.fakes[name]


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        backup = stack.enter_context(FakeCartesia())
        fakes = {name: stack.enter_context(fake()) for name, (fake, _, _) in FAKES.items()}
        lines = ["tts: {first_audio_timeout_s: 2, last_audio_timeout_s: 20, hole_timeout_s: 2}"]
        lines.append("providers:")
        lines.append(f'  backup: {{type: cartesia, base_url: "{backup.url}", api_key: k}}')
        for name, fake in fakes.items():
            # a name of its own, so that its rest after failures does not follow it
            base = f'base_url: "{fake.url}{FAKES[name][1]}", api_key: k'
            lines.append(f"  {name}: {{{base}}}")
            lines.append(f"  bad-{name}: {{type: {name}, {base}}}")
        lines.append("models:")
        for name, (_, _, model) in FAKES.items():
            lines.append(f"  test/{name}: [{{provider: {name}, model: {model}}}]")
            lines.append(f"  both/{name}:")
            lines.append(f"    - {{provider: bad-{name}, model: {model}}}")
            lines.append("    - {provider: backup, model: sonic-3}")
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), "\n".join(lines)))
        yield Setup(server, fakes, backup)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    for fake in (*running_setup.fakes.values(), running_setup.backup):
        fake.forget()
    return running_setup


@pytest.mark.parametrize("name", NAMES)
async def test_all_audio_of_many_utterances_arrives_as_it_was_spoken(
    setup: Setup, name: str
) -> None:
    async with opened(setup.server, f"test/{name}") as client:
        for texts in ((ONE, TWO, THREE), (TWO,), (), (THREE, ONE)):
            heard = await client.say(*texts)
            assert heard.types[-1] == "done", heard.messages[-1]
            assert heard.audio == b"".join(render(text) for text in texts)
    assert "".join(setup[name].said) == ONE + TWO + THREE + TWO + THREE + ONE


@pytest.mark.parametrize("name", TIMED)
async def test_timings_are_on_the_utterances_clock(setup: Setup, name: str) -> None:
    async with opened(setup.server, f"test/{name}") as client:
        heard = await client.say(ONE, TWO)
    entries = heard.words or [c for m in heard.messages for c in m.get("chars", [])]
    spelt = "".join(e.get("word") or e["char"] for e in entries)
    assert spelt.split() == (ONE + TWO).split()
    starts = [e["start"] for e in entries]
    assert starts == sorted(starts)
    second = next(e["start"] for e in entries[3:] if (e.get("word") or e["char"])[0] == "T")
    assert second == pytest.approx(len(render(ONE)) / 2 / 24000, abs=0.12)


@pytest.mark.parametrize("name", NAMES)
async def test_sentences_are_spoken_as_they_are_written(setup: Setup, name: str) -> None:
    async with opened(setup.server, f"test/{name}") as client:
        heard = await client.say(ONE, TWO, waits_for_audio=True)
    assert heard.first_audio_s is not None
    assert heard.first_audio_s < heard.written[1]
    assert heard.audio == render(ONE) + render(TWO)


@pytest.mark.parametrize("scenario", ["reset", "close", "error", "hole", "silent"])
@pytest.mark.parametrize("name", NAMES)
async def test_what_fails_before_audio_is_spoken_by_the_next(
    setup: Setup, name: str, scenario: str
) -> None:
    setup[name].utterances(scenario)
    async with opened(setup.server, f"both/{name}") as client:
        heard = await client.say(ONE, TWO)
    assert heard.types[-1] == "done", heard.messages[-1]
    assert heard.audio == render(ONE) + render(TWO)


@pytest.mark.parametrize("scenario", ["reset", "close", "error", "hole"])
@pytest.mark.parametrize("name", NAMES)
async def test_what_fails_in_the_middle_loses_no_text(
    setup: Setup, name: str, scenario: str
) -> None:
    one_s = len(render(ONE)) / 2 / 24000
    setup[name].utterances(f"{scenario}:{one_s + 0.4}")
    async with opened(setup.server, f"both/{name}") as client:
        heard = await client.say(ONE, TWO, THREE)
    assert heard.types[-1] == "done", heard.messages[-1]
    for text in (ONE, TWO, THREE):
        assert render(text) in heard.audio
    assert heard.audio.endswith(render(TWO) + render(THREE))
    if name in TIMED:
        assert heard.audio.count(render(ONE)) == 1


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("name", NAMES)
async def test_a_refused_handshake_is_passed_over(setup: Setup, name: str, status: int) -> None:
    setup[name].script(*[f"status:{status}"] * 3)
    async with opened(setup.server, f"both/{name}", voice=f"v{status}") as client:
        heard = await client.say(ONE)
    assert heard.audio == render(ONE)


@pytest.mark.parametrize("name", NAMES)
async def test_a_close_ends_the_speech_upstream_and_the_next_caller_is_served(
    setup: Setup, name: str
) -> None:
    fake = setup[name]
    fake.speed = 1.0
    try:
        async with opened(setup.server, f"test/{name}") as client:
            await client.send({"type": "input_transcript", "transcript": LONG})
            while (await client.receive())["type"] != "output_audio":
                pass
    finally:
        fake.speed = 20.0
    async with opened(setup.server, f"test/{name}") as client:
        heard = await client.say(TWO)
    assert heard.audio == render(TWO)
    if name == "elevenlabs":  # it has no harder way than that by which a whole utterance ends
        assert len(fake.cancelled) == 2, "one for who left, one for who was served"
    else:
        assert not fake.speaking, "still speaking to nobody while the next was served"
    assert fake.spoken_s < len(render(LONG)) / 2 / 24000 / 2


@pytest.mark.parametrize("name", NAMES)
async def test_a_rate_that_the_provider_lacks_is_resampled(setup: Setup, name: str) -> None:
    async with opened(setup.server, f"test/{name}", rate=12000) as client:
        heard = await client.say(ONE)
    got = np.frombuffer(heard.audio, np.int16).astype(float)
    wanted = np.frombuffer(render(ONE, 12000), np.int16).astype(float)
    assert abs(len(got) - len(wanted)) < 60
    shorter = min(len(got), len(wanted))
    assert np.corrcoef(got[:shorter], wanted[:shorter])[0, 1] > 0.97


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("deepgram", {"speed": 1.2}, {"speed": "1.2"}),
        ("elevenlabs", {"apply_text_normalization": "off"}, {"apply_text_normalization": "off"}),
        ("rime", {"speed_alpha": 1.2}, {"speedAlpha": "1.2"}),
        ("xai", {"speed": 1.1}, {"speed": "1.1"}),
    ],
)
async def test_options_of_the_client_reach_the_url(
    setup: Setup, name: str, extra: dict[str, object], expected: dict[str, str]
) -> None:
    async with opened(setup.server, f"test/{name}", extra=extra) as client:
        await client.say(ONE, extra=extra)
    queries = [e.query for e in setup[name].received]
    assert any(expected.items() <= query.items() for query in queries)

"""stt.standby: through the real server, a second recogniser is there before it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.server import running
from tests.end_to_end.stt_caller import converse, words
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

SAID = VOCABULARY[:12]


@pytest.mark.parametrize("failure", ["drop:1.2", "stall:1.2"])
async def test_it_serves_on_the_connection_that_was_open_before(
    tmp_path: Path, failure: str
) -> None:
    with FakeDeepgram(failure) as first, FakeDeepgram() as second:
        providers = "".join(
            f"  {name}: {{type: deepgram, base_url: '{fake.url}', api_key: {KEY}}}\n"
            for name, fake in (("first", first), ("second", second))
        )
        config = (
            f"providers:\n{providers}stt:\n  local_last: false\n"
            "  standby: {model: second/nova-3, models: [first/nova-3]}\n"
        )
        with running(tmp_path, config) as server:
            told = await converse(server, spoken(SAID) + hush(1.0), model="first/nova-3")
        taken = second.connections[0]

    assert words(told) == list(SAID)
    # one more is kept after the first has taken over; what that one said is all there is
    assert [one.text for one in taken.ear.words] == list(SAID)
    assert all(not one.ear.words for one in second.connections[1:])

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings.bargein import EAGERNESS_MAX, BargeinConfig


def test_a_key_without_an_eagerness_of_its_own_has_that_of_all() -> None:
    config = BargeinConfig(eagerness=-1, eagerness_by_key={"APIone": 2})

    assert config.eagerness_of("APIone") == 2
    assert config.eagerness_of("APItwo") == -1


@pytest.mark.parametrize("eagerness", [EAGERNESS_MAX + 0.1, -EAGERNESS_MAX - 0.1, float("nan")])
def test_an_eagerness_out_of_range_is_a_mistake(eagerness: float) -> None:
    with pytest.raises(ValidationError):
        BargeinConfig(eagerness=eagerness)
    with pytest.raises(ValidationError):
        BargeinConfig(eagerness_by_key={"APIone": eagerness})

"""How regions are written."""

import pytest
from pydantic import ValidationError

from gateway.settings.residency import ResidencyConfig


def test_one_region_or_a_list() -> None:
    given = ResidencyConfig.model_validate({"keys": {"a": "eu", "b": ["eu", "ch"]}})
    assert given.keys == {"a": {"eu"}, "b": {"eu", "ch"}}


@pytest.mark.parametrize("region", ["", "EU", "e u", "-eu", "eu-", "e" * 33, [], 7, None])
def test_what_is_no_region_is_refused(region: object) -> None:
    with pytest.raises(ValidationError):
        ResidencyConfig.model_validate({"models": {"m": region}})

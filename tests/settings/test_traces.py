"""Settings of traces."""

import pytest
from pydantic import ValidationError

from gateway.settings.traces import TracesConfig


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert TracesConfig().endpoint is None
    assert TracesConfig(endpoint="").endpoint is None


def test_an_endpoint_is_a_url() -> None:
    assert TracesConfig(endpoint="http://collector:4318/v1/traces").endpoint
    with pytest.raises(ValidationError):
        TracesConfig(endpoint="collector:4318")

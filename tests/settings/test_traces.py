"""Settings of traces."""

import pytest
from pydantic import ValidationError

from gateway.settings.traces import TracesConfig


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert TracesConfig().endpoint is None
    assert TracesConfig(endpoint="").endpoint is None


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.settings.traces._installed", lambda: False)
    with pytest.raises(ValidationError, match=r"pip install '\.\[otel\]'"):
        TracesConfig(endpoint="http://collector:4318/v1/traces")


def test_an_endpoint_is_a_url() -> None:
    assert TracesConfig(endpoint="http://collector:4318/v1/traces").endpoint
    with pytest.raises(ValidationError):
        TracesConfig(endpoint="collector:4318")

"""Whisper on this machine: which model a session is given."""

from __future__ import annotations

import pytest

from gateway.engines.whisper import installed
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.stt import LocalStt
from gateway.upstreams.errors import Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import LocalModel, LocalTarget


def target(model: str, language: str | None = None, **options: object) -> LocalTarget:
    settings = LocalSettings(
        whisper={"mine": "/models/mine"}, whisper_device="cuda", whisper_threads=4
    )
    upstream = LocalStt(Account("local", "local", "local://", settings=settings))
    dialled = upstream.recognizer(
        Attempt("local", model, options, language=language), 48_000
    ).dial()
    assert isinstance(dialled, LocalTarget)
    return dialled


@pytest.mark.skipif(not installed(), reason="the extra `local` is not installed")
def test_a_model_of_the_operators_is_used_as_it_is_set() -> None:
    mine = target("mine")
    assert mine.refused is None
    assert mine.transcriber == LocalModel("mine", "/models/mine", "cuda", None, 4, 1)


def test_one_option_says_where_all_engines_run() -> None:
    settings = LocalSettings(whisper={"mine": "/models/mine"}, device="auto")
    upstream = LocalStt(Account("local", "local", "local://", settings=settings))
    dialled = upstream.recognizer(Attempt("local", "mine"), 16_000).dial()
    assert isinstance(dialled, LocalTarget)
    assert isinstance(dialled.transcriber, LocalModel)
    assert dialled.transcriber.device == "auto"


def test_a_client_cannot_make_this_machine_fetch_what_it_names() -> None:
    other = target("org/any-repository")
    assert other.refused is not None
    assert other.refused.kind is Kind.UPSTREAM_NOT_FOUND
    assert isinstance(other.transcriber, LocalModel)
    assert other.transcriber.path == ""


def test_a_language_has_no_region_and_several_are_found_by_the_model() -> None:
    assert target("mine", "pt-BR").language == "pt"
    assert target("mine", "multi").language is None


def test_a_client_says_how_it_is_cut_and_what_it_is_about() -> None:
    asked = target("mine", silence_ms=700, prompt="a hotel", of_another=1)
    assert (asked.cutting.silence_s, asked.prompt) == (0.7, "a hotel")


def test_options_are_checked_and_terms_of_other_vendors_translated() -> None:
    upstream = LocalStt(Account("local", "local", "local://", settings=LocalSettings()))
    assert upstream.check({"silence_ms": "long"}) is not None
    assert upstream.translate({"keyterm": "a"})["keyterms"] == ["a"]

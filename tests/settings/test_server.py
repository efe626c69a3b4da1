"""Where the server listens, and for how long."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings.server import ServerConfig, TlsConfig, host_problem


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "gateway.internal", "bücher.de"])
def test_an_address_or_a_name_is_listened_on(host: str) -> None:
    assert host_problem(host) == ""
    assert ServerConfig(host=host).host == host


@pytest.mark.parametrize("host", ["", " ", "a b", "a\nb", "x" * 300, ".a"])
def test_what_cannot_be_a_host_is_refused_with_words(host: str) -> None:
    for option in ("host", "admin_host"):
        with pytest.raises(ValidationError, match="expected an address or a host name"):
            ServerConfig.model_validate({option: host})


@pytest.mark.parametrize("given", ["certificate", "key"])
def test_a_certificate_and_its_key_belong_together(given: str) -> None:
    with pytest.raises(ValueError, match="a certificate needs its key"):
        TlsConfig(**{given: Path("x.pem")})


def test_the_operators_port_is_on_this_machine_unless_told_otherwise_and_may_be_none() -> None:
    assert (ServerConfig().admin_host, ServerConfig().admin_port) == ("127.0.0.1", 9090)
    assert ServerConfig(admin_port=None).admin_port is None


def test_a_call_of_five_hours_may_end_by_itself() -> None:
    assert ServerConfig(shutdown_grace_s=18000).shutdown_grace_s == 18000


def test_networks_of_proxies_are_checked() -> None:
    given = ServerConfig.model_validate({"trusted_proxies": ["10.0.0.0/8"]})
    assert given.trusted_proxies == (ip_network("10.0.0.0/8"),)
    with pytest.raises(ValueError, match="trusted_proxies"):
        ServerConfig.model_validate({"trusted_proxies": ["10.0.0.1/8"]})


@pytest.mark.parametrize(
    ("given", "clash"),
    [
        ({"port": 7000, "admin_port": 7000}, True),  # 0.0.0.0 is every address
        ({"host": "127.0.0.1", "port": 7000, "admin_port": 7000}, True),
        ({"host": "10.0.0.1", "port": 7000, "admin_port": 7000}, False),
        ({"host": "10.0.0.1", "port": 7000, "admin_port": 7000, "admin_host": "::"}, True),
        ({"port": 0, "admin_port": 0}, False),
        ({"port": 9090}, False),  # nobody asked for the other one, and any will do
    ],
)
def test_two_servers_need_two_ports(given: dict[str, object], clash: bool) -> None:
    if clash:
        with pytest.raises(ValidationError, match="expected two ports"):
            ServerConfig.model_validate(given)
    else:
        assert ServerConfig.model_validate(given).model_fields_set == given.keys()

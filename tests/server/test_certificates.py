"""When a certificate expires, as OpenSSL tells it of the same file."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.server.certificates import expires_at
from tests.services import needed


def made(folder: Path, days: int) -> Path:
    certificate = folder / "cert.pem"
    command = [needed("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=voice"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", str(days)]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


@pytest.mark.parametrize("days", [30, 20_000])  # from 2050 on dates are written otherwise
def test_the_end_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    certificate = made(tmp_path, days)
    command = [needed("openssl"), "x509", "-enddate", "-noout", "-in", str(certificate)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT")
    assert expires_at(certificate) == expected.replace(tzinfo=UTC).timestamp()


def test_of_a_chain_it_is_the_first(tmp_path: Path) -> None:
    certificate = made(tmp_path, 30)
    alone = expires_at(certificate)
    (tmp_path / "b").mkdir()
    chain = tmp_path / "chain.pem"
    chain.write_text(certificate.read_text() + made(tmp_path / "b", 900).read_text())
    assert expires_at(chain) == alone


def test_what_is_no_certificate_has_no_end(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    assert expires_at(file) is None
    for text in ("", "nonsense", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"):
        file.write_text(text)
        assert expires_at(file) is None
    broken = made(tmp_path, 30).read_text().splitlines()
    file.write_text("\n".join([*broken[:3], broken[-1]]))
    assert expires_at(file) is None

"""When a certificate expires, read from its file.

The `ssl` module tells that of a peer's certificate alone, so the few fields before it are passed
over here: X.509 (RFC 5280, section 4.1) in DER (X.690).
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_END: Final = "-----END CERTIFICATE-----"

_VERSION, _UTC_TIME = 0xA0, 0x17


def expires_at(path: Path) -> float | None:
    """Unix time at which the first certificate of a PEM file expires; None: it cannot be told."""
    try:
        pem = path.read_text("ascii", "replace")
        begin = pem.index("-----BEGIN CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(pem[begin : pem.index(_END, begin) + len(_END)])
        return _not_after(der)
    except (OSError, ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    signed, _ = _content(der, 0)  # Certificate
    at, end = _content(der, signed)  # TBSCertificate
    if der[at] == _VERSION:
        _, at = _content(der, at)
    for _ in range(3):  # serialNumber, signature, issuer
        _, at = _content(der, at)
    at, end = _content(der, at)  # validity
    _, at = _content(der, at)  # notBefore
    kind = der[at]
    at, end = _content(der, at)
    text = der[at:end].decode("ascii")
    if kind == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the value at `at` begins, and where it ends."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[begin : begin + octets], "big")
        begin += octets
    if begin + length > len(der):
        raise ValueError("a value goes beyond the end")
    return begin, begin + length

"""Language codes, as far as a wrong one can be told. Pure."""

from __future__ import annotations

import re
from typing import Final

ISO_639_1: Final = frozenset(
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy "
    "da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu "
    "hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb "
    "lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om "
    "or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw "
    "ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu".split()
)
"""Two-letter codes (ISO 639-1)."""

_COUNTRIES: Final = {
    "jp": "ja", "cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "ua": "uk", "us": "en",
    "gb": "en", "at": "de", "mx": "es", "ir": "fa", "il": "he",
}  # fmt: skip
"""Country codes that are taken for a language's."""

_FORM: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def problem(code: str) -> str:
    """What is wrong with a language code such as `de` or `pt-BR`; "" if nothing can be told."""
    base = code.partition("-")[0].lower()
    if code == "multi" or (_FORM.fullmatch(code) and (len(base) == 3 or base in ISO_639_1)):
        return ""
    hint = f"; did you mean {_COUNTRIES[base]!r}?" if base in _COUNTRIES else ""
    return f"expected a language code such as en or pt-BR{hint}"

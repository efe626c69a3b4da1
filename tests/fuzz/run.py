"""Runs targets, keeps findings."""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.targets import targets

CORPUS = Path(__file__).with_name("corpus.jsonl")
"""Findings that were mended: target, seed, and what went wrong then, one JSON object a line."""

FINDINGS_MAX = 50
"""Of one run, one for each place in the code."""


@dataclass(frozen=True)
class Finding:
    target: str
    seed: int
    error: str


@dataclass
class Result:
    seed: int
    targets: int
    count: int = 0
    findings: list[Finding] = field(default_factory=list)


def fuzz(seconds: float, seed: int | None = None, only: str = "") -> Result:
    """Feed the targets in turn for so long."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    chosen = {name: target for name, target in targets().items() if only in name}
    result = Result(seed, len(chosen))
    seen: set[str] = set()
    ends = time.monotonic() + seconds
    while chosen and time.monotonic() < ends and len(result.findings) < FINDINGS_MAX:
        for name, target in chosen.items():
            number = seed + result.count
            result.count += 1
            try:
                target(random.Random(number))
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{name}: {place.filename}:{place.lineno}"
                if where not in seen:
                    seen.add(where)
                    what = f"{type(error).__name__}: {error}"[:200]
                    place_ = f"{Path(place.filename).name}:{place.lineno}"
                    result.findings.append(Finding(name, number, f"{what} ({place_})"))
    return result


def record(findings: Sequence[Finding]) -> None:
    """Add them to the corpus."""
    with CORPUS.open("a") as file:
        file.writelines(json.dumps(asdict(one)) + "\n" for one in findings)


def corpus() -> list[Finding]:
    """What was found before."""
    if not CORPUS.exists():
        return []
    return [Finding(**json.loads(line)) for line in CORPUS.read_text().splitlines()]

"""Learning from one's own calls: what was kept is listened to, learnt from, and forgotten.

`forget`, `review` and `learn` stand for `gateway bargein forget`, and so on. What they write for
people goes to `tell`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from gateway.engines.interruption import adapt, labelling
from gateway.engines.interruption.adapt import Opinion, Regression, Window
from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.engine import shipped_model
from gateway.engines.interruption.head import HeadOfModel
from gateway.engines.interruption.learning import learn_folder
from gateway.engines.interruption.vault import Kept, Vault, VaultError
from gateway.engines.types import ModelError
from gateway.settings.bargein import BargeinConfig, LearnConfig

REGRESSION: Final = Path(adapt.__file__).with_name("regression.npz")
Tell = Callable[[str], None]


class LearnError(Exception):
    """It cannot be done; the message says why and what would help."""


def vault_of(config: LearnConfig) -> Vault:
    """What is kept by this configuration. Raises LearnError."""
    vault = labelling.vault_of(config)
    if vault is None:
        raise LearnError(
            "bargein.learn.secret is not set: nothing is kept, and nothing that was kept can be "
            "read (deploy/learning.md)"
        )
    return vault


def forget(config: LearnConfig, name: str | None, tell: Tell) -> None:
    """Delete what is kept of a room or job, or everything. Raises LearnError."""
    try:
        gone = vault_of(config).forget(name)
    except VaultError as error:
        raise LearnError(str(error)) from None
    tell(f"{gone} windows deleted")


def readable(vault: Vault, tell: Tell) -> Iterable[tuple[Path, Kept]]:
    """What is kept, the oldest first; what cannot be read is told of, once. Raises LearnError."""
    try:
        files, wrong = vault.files(), 0
    except VaultError as error:
        raise LearnError(str(error)) from None
    for path in files:
        try:
            yield path, vault.read(path)
        except VaultError as error:
            wrong += 1
            if wrong == 1:
                tell(f"left out: {error}")
    if wrong > 1:
        tell(f"left out: {wrong} windows in all")


# -- review

_LABELS: Final = {"i": Label.FLOOR, "b": Label.BACKCHANNEL, "n": Label.NOISE}
_PROMPT: Final = "[i]nterruption, [b]ackchannel, [n]oise, [d]elete, [s]kip, [q]uit: "


def review(
    config: LearnConfig,
    tell: Tell,
    ask: Callable[[str], str],
    clip: Path | None = None,
    *,
    every: bool = False,
) -> None:
    """Have a person label windows whose label is missing or unsure (`every`: all that no person
    has labelled), the most disputed first. Each is written to the file `clip`, to be played by
    whatever plays WAV; by default into a folder of this user's alone. It is deleted at the end.
    Raises LearnError."""
    vault = vault_of(config)
    waiting = labelling.waiting(readable(vault, tell), every=every)
    if not waiting:
        tell("nothing waits for a label")
        return
    labelled = 0
    with tempfile.TemporaryDirectory(prefix="parley-review-") as folder:
        target = clip or Path(folder) / "clip.wav"
        try:
            for number, (path, kept) in enumerate(waiting, 1):
                write_clip(target, kept)
                tell(f"{number} of {len(waiting)}: {_told(kept)}\n  listen: {target}")
                answer = _answer(ask)
                if answer == "q":
                    break
                if answer == "d":
                    path.unlink(missing_ok=True)
                elif answer in _LABELS:
                    vault.relabel(path, _LABELS[answer], labelling.SURE)
                    labelled += 1
        except (VaultError, OSError) as error:
            raise LearnError(str(error)) from None
        finally:
            target.unlink(missing_ok=True)
    tell(f"{labelled} windows labelled")


def _answer(ask: Callable[[str], str]) -> str:
    while True:
        try:
            answer = ask(_PROMPT).strip().lower()[:1]
        except EOFError:
            return "q"
        if answer in {*_LABELS, "d", "s", "q"}:
            return answer


def _told(kept: Kept) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(kept.at))
    seconds = len(kept.window) / 2 / labelling.RATE
    decided = "interruption" if kept.detected else "no interruption"
    followed = "nobody knows" if kept.label is None else f"{kept.label} ({kept.confidence:.2f})"
    return (
        f"{day} UTC, {seconds:.1f} s, decided {decided} at {kept.claim:.2f} "
        f"(threshold {kept.threshold:g}), by what followed: {followed}"
    )


def write_clip(path: Path, kept: Kept) -> None:
    """As WAV, for this user alone. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(labelling.wav(kept))


# -- learn


def learn(config: BargeinConfig, tell: Tell) -> Path | None:
    """Adapt the configured model to what is kept, and publish it where it is better; its file, or
    None if it was refused. Raises LearnError."""
    base = config.model or shipped_model()
    try:
        model = HeadOfModel(base)
        regression = adapt.regression_of(REGRESSION)
    except ModelError as error:
        raise LearnError(str(error)) from None
    if regression.sha256 != model.sha256:
        raise LearnError(
            f"{base}: the regression set that ships is of another model, so nobody could tell what "
            "would be lost; leave bargein.model out"
        )
    windows = windows_of(readable(vault_of(config.learn), tell), model, regression, tell)
    if (why := adapt.too_few(windows)) is not None:
        raise LearnError(f"nothing to learn from: {why}")
    threshold = config.threshold or float(model.metadata["default_threshold"])
    fitted_on, held_out = adapt.split([one.call for one in windows])
    fitted = adapt.chosen([one for one in windows if one.call in fitted_on], regression.rehearsed)
    own = adapt.compared(
        [one for one in windows if one.call in held_out], fitted, threshold, config.eagerness
    )
    general = adapt.compared(regression.windows, fitted, threshold, config.eagerness)
    tables = "\n\n".join(
        (
            adapt.described("your own held-out calls", own),
            adapt.described("regression set", general),
        )
    )
    tell(tables)
    reasons = adapt.refusals(own, general)
    if fitted is adapt.NO_CHANGE:
        reasons = ["no change does better on calls that it was not fitted on"]
    if reasons:
        tell("\nnot published:\n" + "\n".join(f"- {reason}" for reason in reasons))
        return None
    target = publish(config, model, regression, fitted, tables, len(windows), len(fitted_on))
    tell(
        f"\npublished: {target}\nto serve it to a tenth of the calls:\n\n"
        f"bargein:\n  models:\n    {target.name}: 0.1\n\n"
        "and `gateway reload`; to take it back, take the lines out and reload again"
    )
    return target


def windows_of(
    kept: Iterable[tuple[Path, Kept]], model: HeadOfModel, regression: Regression, tell: Tell
) -> list[Window]:
    """What has a label, as the head of the model sees it, with what is believed of it."""
    windows: list[Window] = []
    opinions: list[Opinion] = []
    labels: Counter[str] = Counter()
    for _, one in kept:
        if one.label is None:
            labels["without a label"] += 1
            continue
        samples = np.frombuffer(one.window[: len(one.window) // 2 * 2], "<i2")
        heard = model.hear(samples)
        if not len(heard.logits):
            continue
        labels[f"{one.label} by {'a person' if one.by == 'person' else 'what followed'}"] += 1
        window = Window(
            one.room or one.job,
            "kept windows",
            0.0,
            adapt.onset_of(heard.speech),
            regression.basis.marks(heard.features),
            heard.logits,
            one.weight,
        )
        detected = adapt.detected_at(window, adapt.NO_CHANGE, one.threshold, 0.0) is not None
        windows.append(window)
        opinions.append(Opinion(one.label.takes_floor, one.confidence, detected, one.weight))
    tell(", ".join(f"{count} {what}" for what, count in sorted(labels.items())) or "nothing kept")
    return [
        replace(window, floor=belief)
        for window, belief in zip(windows, adapt.beliefs(opinions), strict=True)
    ]


def publish(
    config: BargeinConfig,
    model: HeadOfModel,
    regression: Regression,
    fitted: adapt.Fitted,
    tables: str,
    windows: int,
    calls: int,
) -> Path:
    """Write the new version where `bargein.models` looks for it. Raises LearnError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    metadata = {
        "version": f"{model.metadata.get('version', 'unknown')}+{stamp}",
        "learnt_from": f"{windows} windows, fitted on {calls} calls; from {model.sha256}",
    }
    change, bias = regression.basis.change(fitted)
    folder = learn_folder(config.learn) / "models"
    target = folder / f"interruption-{stamp}.onnx"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.with_suffix(".txt").write_text(tables + "\n", "utf-8")
        part = target.with_suffix(".part")
        part.write_bytes(model.with_change(change, bias, metadata))
        part.replace(target)
    except OSError as error:
        raise LearnError(
            f"{folder}: cannot be written: {(error.strerror or 'error').lower()}"
        ) from None
    return target

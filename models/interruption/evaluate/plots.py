"""The figures as small pictures for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.interruption.evaluate import scoring
from models.interruption.evaluate.scoring import Scored

SHOWN = ("ami", "ami, all folds", "ami_crosstalk", "interview", "recorded", "made")
COLOURS = {
    "interruption": "#1f77b4",
    "backchannel": "#d62728",
    "cough": "#2ca02c",
    "baby cry": "#9467bd",
    "music": "#8c564b",
    "noise": "#7f7f7f",
    "background speech": "#ff7f0e",
    "echo of the agent": "#bcbd22",
    "hum, generated": "#e377c2",
    "laugh, generated": "#17becf",
}


def draw(found: dict[str, list[Scored]], result: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    shown = [name for name in SHOWN if name in found]
    _ranking(plt, shown, result, folder / "auc.png")
    _reliability(plt, shown, result, folder / "reliability.png")
    _decided(plt, shown, found, folder / "decided.png")
    _courses(plt, shown, found, result["threshold"], folder / "courses.png")


def _axes(plt: Any, count: int) -> tuple[Any, Sequence[Any]]:
    figure, axes = plt.subplots(1, count, figsize=(3.1 * count, 2.9), squeeze=False, sharey=True)
    return figure, axes[0]


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _ranking(plt: Any, shown: list[str], result: dict[str, Any], path: Path) -> None:
    figure, axes = _axes(plt, len(shown))
    ways = {
        "auc": ("this model", "#1f77b4", "-o"),
        "auc_pair": ("speech seconds + (1 - smart-turn)", "#d62728", "--s"),
        "auc_speech_seconds": ("speech seconds", "#7f7f7f", ":^"),
    }
    for axis, name in zip(axes, shown, strict=True):
        rows = result["tables"][name]["ranking"]
        times = list(rows)
        for key, (label, colour, style) in ways.items():
            if key not in rows[times[0]]:
                continue
            values = np.array([rows[t][key] for t in times])
            axis.plot(times, values[:, 0], style, color=colour, label=label, ms=4)
            if key == "auc":
                axis.fill_between(times, values[:, 1], values[:, 2], color=colour, alpha=0.15)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds after onset", fontsize=8)
        axis.set_ylim(0.4, 1.01)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("AUC", fontsize=8)
    axes[-1].legend(fontsize=6, loc="lower right")
    _save(plt, figure, path)


def _reliability(plt: Any, shown: list[str], result: dict[str, Any], path: Path) -> None:
    figure, axes = _axes(plt, len(shown))
    for axis, name in zip(axes, shown, strict=True):
        of_table = result["tables"][name]
        points = np.array(of_table["reliability"])
        axis.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
        axis.plot(points[:, 0], points[:, 1], "-", color="#1f77b4", lw=1)
        axis.scatter(points[:, 0], points[:, 1], s=6 + 2 * points[:, 2], color="#1f77b4", alpha=0.6)
        axis.set_title(f"{name}, Brier {of_table['brier']:.3f}", fontsize=9)
        axis.set_xlabel("probability at 1 s", fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of interruptions", fontsize=8)
    _save(plt, figure, path)


def _kinds(items: Sequence[Scored]) -> list[str]:
    return [kind for kind in COLOURS if any(item.trial.kind == kind for item in items)]


def _decided(plt: Any, shown: list[str], found: dict[str, list[Scored]], path: Path) -> None:
    figure, axes = _axes(plt, len(shown))
    times = np.arange(1, 21) * scoring.STEP_S
    for axis, name in zip(axes, shown, strict=True):
        for kind in _kinds(found[name]):
            members = [item for item in found[name] if item.trial.kind == kind]
            share = [np.mean([item.decided_by(t) for item in members]) for t in times]
            axis.step(times, share, where="post", color=COLOURS[kind], label=kind, lw=1.3)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds after onset", fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6)
    axes[0].set_ylabel("share decided to interrupt", fontsize=8)
    _save(plt, figure, path)


def _courses(
    plt: Any, shown: list[str], found: dict[str, list[Scored]], threshold: float, path: Path
) -> None:
    figure, axes = _axes(plt, len(shown))
    times = (np.arange(120) + 1) * scoring.FRAME_S - 1.0
    for axis, name in zip(axes, shown, strict=True):
        for kind in _kinds(found[name]):
            curves = np.array(
                [item.probabilities for item in found[name] if item.trial.kind == kind]
            )
            low, middle, high = np.percentile(curves, [25, 50, 75], axis=0)
            axis.plot(times, middle, color=COLOURS[kind], label=kind, lw=1.3)
            if kind in ("interruption", "backchannel"):
                axis.fill_between(times, low, high, color=COLOURS[kind], alpha=0.15)
        axis.axhline(threshold, color="black", lw=0.6, ls=":")
        axis.axvline(0, color="black", lw=0.6)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds after onset", fontsize=8)
    axes[0].set_ylabel("probability (median, quartiles)", fontsize=8)
    axes[-1].legend(fontsize=6)
    _save(plt, figure, path)

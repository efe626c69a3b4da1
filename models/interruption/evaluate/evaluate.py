"""Scores an interruption model on people and voices that training never met.

    python -m models.interruption.evaluate --model models/interruption/interruption.onnx --out DIR

Prints every table, writes them with the plots to DIR, and with `--card` also between the markers
of the model card. `--conversations FILE.csv` scores two-channel recordings with labelled events
instead (the form is in `conversations.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import interviews, nonverbal, splits
from models.interruption.data.collect import WORDS as WORDS_FOLDER
from models.interruption.evaluate import channels as eval_channels
from models.interruption.evaluate import conversations, plots, report, scoring, trials
from models.interruption.evaluate.baselines import PairCache
from models.interruption.evaluate.scoring import Model, Scored
from models.interruption.evaluate.trials import SHORT, WORDS, Trial
from models.interruption.pretrained.silero import speech_seconds
from models.interruption.sound import as_float

NOISE_DB = (20.0, 10.0, 5.0, 0.0)
NOISES = 20  # of each kind of generated noise


def scored(
    items: Iterable[Trial],
    models: dict[int | None, Model],
    pair: PairCache | None,
    threshold: float,
) -> list[Scored]:
    """Each trial by the model of its fold, where there is one, else by the model under test."""
    ends = tuple(round((trials.BEFORE_S + t) * scoring.SAMPLE_RATE) for t in scoring.PAIR_TIMES_S)
    out = []
    for trial in items:
        model = models.get(trial.fold) or models[None]
        probabilities = model.streamed(trial.samples)
        speech = trial.kind in (trials.TURN, trials.BACKCHANNEL) or trial.table != "made"
        known = np.array(pair.features(trial.samples, ends)) if pair and speech else None
        out.append(
            Scored(
                trial=trial,
                probabilities=probabilities,
                decided_s=scoring.decided_after_s(probabilities, threshold, scoring.MIN_FRAMES),
                pair=known,
                speech_s=heard_s(trial, known) if pair and not trial.positive else 0.0,
            )
        )
    return out


def heard_s(trial: Trial, pair: NDArray[np.float64] | None) -> float:
    """What Silero takes for speech: known with the pair, else asked."""
    if pair is not None:
        return float(pair[0, -1])
    return speech_seconds(as_float(trial.samples))


def differences(model: Model, items: Sequence[Scored]) -> dict[str, float]:
    """How far the evaluated stream is from one run over all, and from the server's own answers."""
    whole, server = 0.0, 0.0
    for item in items:
        samples, found = item.trial.samples, item.probabilities
        whole = max(whole, float(np.abs(model.whole(samples) - found).max()))
        for step, answer in enumerate(scoring.served(model, samples), start=1):
            known = scoring.frames_at(step * scoring.STEP_S)
            server = max(server, float(np.abs(found[known - len(answer) : known] - answer).max()))
    return {"whole": whole, "server": server}


def kept(make: Callable[[], Iterable[Trial]], *depends_on: object) -> list[Trial]:
    """The trials that `make` gives, from the cache where neither code nor arguments changed."""
    digest = hashlib.sha256(repr(depends_on).encode())
    for module in (trials, eval_channels, splits, nonverbal):
        digest.update(Path(str(module.__file__)).read_bytes())
    path = cache_folder().parent / "eval-trials" / f"{digest.hexdigest()[:24]}.pickle"
    if path.exists():
        found: list[Trial] = pickle.loads(path.read_bytes())
        return found
    found = list(make())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found))
    return found


def _stamp(more: Path) -> str:
    """Changes with the labels of the interviews."""
    table = interviews.table(more)
    return hashlib.sha256(table.read_bytes()).hexdigest() if table.exists() else ""


def _words_stamp(more: Path) -> list[str]:
    """Changes with the single words that `collect` made."""
    return sorted(path.name for path in (more / "train" / WORDS_FOLDER).glob("*.flac"))


def tables(
    arguments: argparse.Namespace, model: Model, folds: dict[int | None, Model]
) -> dict[str, list[Scored]]:
    audio: Path = arguments.audio
    pair = None if arguments.no_baselines else PairCache(cache_folder().parent / "eval-pair")
    threshold = model.threshold if arguments.threshold is None else arguments.threshold
    place = str(audio.resolve())
    meetings = kept(lambda: trials.ami(audio), "ami", place)
    limit = arguments.per_source
    recorded = kept(lambda: trials.recorded(audio, limit), "recorded", place, limit)
    made: list[Trial] = []
    short: list[Trial] = []
    if arguments.voices and not arguments.quick:
        notes = trials.held_out_notes(arguments.voices, arguments.made)
        made = kept(lambda: trials.made(notes), "made", [str(path) for path in notes])
        few = trials.held_out_notes(arguments.voices, arguments.made, short=True)
        short = kept(lambda: trials.made(few, SHORT), SHORT, [str(path) for path in few])
    made += [trials.echoed(t) for t in made if t.positive][:NOISES]
    if made:
        made += kept(lambda: trials.made_noises(NOISES), "noises", NOISES)
    groups: dict[str, list[Trial]] = {
        "ami": [c for c in meetings if c.table == "ami" and c.held_out],
        "ami_crosstalk": [c for c in meetings if c.table == "ami_crosstalk" and c.held_out],
        "recorded": recorded,
    }
    more = cache_folder() / "more"
    said = kept(lambda: trials.held_out_interviews(more), "interviews", _stamp(more))
    if said:
        groups["interview"] = said
    words = kept(lambda: trials.words(more, limit), WORDS, _words_stamp(more), limit)
    if words:
        groups[WORDS] = words
    if made:
        groups["made"] = made
    if short:
        groups[SHORT] = short
    if said:
        groups["interview, telephone"] = [trials.over_telephone(c) for c in said]
        groups["interview, 10 dB quieter"] = [trials.quieter(c, 10) for c in said]
    groups["ami, telephone"] = [trials.over_telephone(c) for c in groups["ami"]]
    if not arguments.quick:
        groups["recorded, telephone"] = [trials.over_telephone(c) for c in recorded]
    if made:
        groups["made, telephone"] = [trials.over_telephone(c) for c in made]
    beds = trials.noise_beds(audio)
    out = {}
    for name, items in groups.items():
        print(f"{name}: {len(items)} clips", flush=True)
        of_model: dict[int | None, Model] = {None: model}
        dear = not name.startswith("ami") and name not in (
            "recorded",
            "interview",
        )  # minutes of smart-turn each
        dear = dear and not arguments.baselines_everywhere
        out[name] = scored(items, of_model, None if dear else pair, threshold)
    if len(folds) > 1:
        for table in ("ami", "ami_crosstalk"):
            everyone = [c for c in meetings if c.table == table]
            print(f"{table}, all folds: {len(everyone)} clips", flush=True)
            out[f"{table}, all folds"] = scored(everyone, folds, pair, threshold)
    for snr_db in () if arguments.quick else NOISE_DB:
        for name in ("ami", "interview", "recorded", "made"):
            if name in groups:
                some = groups[name] if name in ("ami", "interview") else groups[name][::3]
                noisy = [trials.in_noise(trial, beds, snr_db) for trial in some]
                out[f"{name}, noise {snr_db:g} dB"] = scored(noisy, {None: model}, None, threshold)
    if said and not arguments.quick:  # a mean over kinds of noise hides the worst
        for kind, bed in beds.items():
            noisy = [trials.in_noise(trial, {kind: bed}, 10) for trial in said]
            out[f"interview, {kind} 10 dB"] = scored(noisy, {None: model}, None, threshold)
    return out


def figures(found: dict[str, list[Scored]], model: Model, threshold: float) -> dict[str, Any]:
    out: dict[str, Any] = {
        "model": model.metadata,
        "bytes": model.bytes,
        "threshold": threshold,
        "milliseconds": scoring.milliseconds(model),
        "differences": differences(model, found["recorded"][:30]),
        "tables": {
            name: scoring.summary(
                items,
                threshold,
                scoring.TIMES_S if name in report.TITLES else (0.6, 1.2),
            )
            for name, items in found.items()
        },
        "groups": {},
        "details": {},
    }
    for name in ("ami", "ami, all folds", "interview", "recorded", WORDS, "made", SHORT):
        if name not in found:
            continue
        items = found[name]
        out["groups"][name] = {
            group: report.group_row([item for item in items if item.trial.group == group])
            for group in sorted({item.trial.group for item in items})
        }
        out["details"][name] = {
            detail: report.group_row([item for item in items if item.trial.detail == detail])
            for detail in sorted({item.trial.detail for item in items} - {""})
        }
    meetings = found.get("ami, all folds") or found["ami"]
    out["groups"]["ami, by speaker"] = {
        speaker: report.group_row([item for item in meetings if item.trial.source == speaker])
        for speaker in sorted({item.trial.source for item in meetings})
    }
    return out


def plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def write_failures(found: dict[str, list[Scored]], folder: Path) -> list[str]:
    """The worst clips as sound, to be listened to, and a line on each."""
    import soundfile

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = []
    for name in ("ami", "interview", "recorded", WORDS, "made", SHORT):
        items = found.get(name, [])
        wrong = [i for i in items if i.trial.positive == (not i.decided_by(1.0))]
        wrong.sort(
            key=lambda i: (
                scoring.decision_score(i.probabilities, 1.0) * (1 if i.trial.positive else -1)
            )
        )
        for item in wrong[:40]:
            score = scoring.decision_score(item.probabilities, 1.0)
            label = f"{name}-{item.trial.kind}-{score:.2f}-{item.trial.name}".replace(" ", "_")
            soundfile.write(folder / f"{label[:120]}.wav", item.trial.samples, scoring.SAMPLE_RATE)
            lines.append(
                f"{name}: {item.trial.kind} of {item.trial.group}, {item.trial.name} "
                f"({item.trial.detail}), highest pair of frames within 1 s {score:.2f}"
            )
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.interruption.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=Path("models/interruption/interruption.onnx"))
    parser.add_argument("--out", type=Path, required=True, help="folder for tables, plots, sounds")
    add_audio(parser)
    parser.add_argument("--voices", type=Path, help="made speech; by default that in the cache")
    parser.add_argument("--threshold", type=float, help="instead of the model's default")
    parser.add_argument("--per-source", type=int, default=120, help="clips of each folder at most")
    parser.add_argument("--made", type=int, default=200, help="made utterances at most")
    parser.add_argument("--no-baselines", action="store_true", help="minutes faster")
    parser.add_argument(
        "--folds",
        help="models that each left out one AMI group, as a path with {fold}: adds a table of all "
        "AMI recordings, each scored by the model that never met its people",
    )
    parser.add_argument(
        "--baselines-everywhere", action="store_true", help="also on made speech and telephone"
    )
    parser.add_argument(
        "--quick", action="store_true", help="real recordings only, without noise: a minute"
    )
    parser.add_argument("--card", type=Path, help="model card whose marked part is rewritten")
    parser.add_argument("--conversations", type=Path, help="CSV of two-channel conversations")
    arguments = parser.parse_args(argv)
    model = Model(arguments.model)
    threshold = model.threshold if arguments.threshold is None else arguments.threshold
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.conversations:
        text = conversations.scored_table(arguments.conversations, model, threshold)
        (arguments.out / "conversations.md").write_text(text, encoding="utf-8")
        print(text)
        return
    if arguments.voices is None:
        made = sorted(cache_folder().glob("voices-*"))
        arguments.voices = made[0] if made else None
        if not made:
            print("no made speech in the cache (models.interruption.data.voices): left out")
    folds: dict[int | None, Model] = {None: model}
    if arguments.folds:
        for fold in range(splits.AMI_FOLDS):
            folds[fold] = Model(Path(arguments.folds.format(fold=fold)))
    found = tables(arguments, model, folds)
    result = figures(found, model, threshold)
    (arguments.out / "figures.json").write_text(
        json.dumps(plain(result), indent=1), encoding="utf-8"
    )
    text = report.markdown(result)
    (arguments.out / "report.md").write_text(text, encoding="utf-8")
    plots.draw(found, result, arguments.out / "plots")
    failures = write_failures(found, arguments.out / "failures")
    (arguments.out / "failures.txt").write_text("\n".join(failures) + "\n", encoding="utf-8")
    if arguments.card:
        report.write_into_card(arguments.card, text)
        beside = arguments.card.parent / "plots"
        beside.mkdir(exist_ok=True)
        for plot in (arguments.out / "plots").glob("*.png"):
            shutil.copy(plot, beside / plot.name)
    print(text)


if __name__ == "__main__":
    main()

"""Trains what knows the agent's own voice again: gateway/engines/interruption/own_voice.npz.

    python -m models.interruption.data.echoes --audio FOLDER --side train --count 1500
    python -m models.interruption.train.own_voice --steps 2500

First the two networks: what they make of the voice as it was sent and of the caller's channel is to
agree, frame by frame, at the moment at which it was played, and nowhere where the caller speaks.
Agreement is added up over time for each moment, as the server does. Then what follows from the log
odds: how much of the published model's opinion is left. The features are the server's own.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from gateway.engines.interruption import own_voice
from gateway.engines.interruption.model import INTERFACE
from gateway.engines.interruption.own_voice import CONTEXT, FRAME_S, LOOK, MARKS, Comparison, Ear
from gateway.engines.onnx import FrameModel
from models.interruption.cache import PUBLISHED, cache_folder
from models.interruption.data import echoes, splits
from models.interruption.evaluate.echo import stretches, voice_of

RATE = 16_000
FRAMES = 100  # heard in one example
SENT = 900  # frames of one example, those of other calls among them
HIDDEN = 48
INNER = 12
REACH = (7.0, 2.0)  # of the logit, less and more
UNMOVED = (
    0.3  # weight of what changes where no echo is; with .05 twice as many backchannels are cut
)
DECAYS_S = (0.3, 1.2)
NEVER = 1e9
_SURE = math.log(own_voice.SURE / (1 - own_voice.SURE))
_LOUD = 1.2  # natural logarithm of power above the quiet of the call


@dataclass(frozen=True)
class Heard:
    """One call. `heard` and `sent` [frames, LOOK]; `earliest` of each frame that was sent; `at`:
    which of them each frame heard is, -1 none; `label`: 1 the agent's voice, 0 a caller, -1
    neither or unknown."""

    heard: NDArray[np.float16]
    sent: NDArray[np.float16]
    earliest: NDArray[np.float32]
    at: NDArray[np.int64]
    label: NDArray[np.int64]


def heard_of(scene: echoes.Scene) -> Heard:
    samples = scene.heard.astype(np.int16)
    heard = Ear(RATE, "heard").look(samples)
    parts: list[NDArray[np.float32]] = []
    earliest: list[NDArray[np.floating]] = []
    starts: list[int] = []
    gap = np.zeros((8, LOOK), np.float32)
    for sent_s, voice in scene.sent:
        look = Ear(RATE, "sent").look(voice.astype(np.int16))
        starts.append(sum(len(part) for part in parts))
        parts += [look, gap]
        earliest += [sent_s + np.arange(len(look)) * FRAME_S, np.full(len(gap), NEVER)]
    middle = (np.arange(len(heard)) + 0.5) * FRAME_S
    at = np.full(len(heard), -1)
    for start_s, piece, from_s, length_s in scene.played:
        inside = (middle >= start_s) & (middle < start_s + length_s)
        at[inside] = starts[int(piece)] + ((from_s + middle[inside] - start_s) / FRAME_S).astype(
            int
        )
    steps = samples[: len(heard) * 400].reshape(-1, 400).astype(np.float64)
    level = np.log((steps**2).mean(axis=1) + 1)
    loud = level > max(np.percentile(level, 15) + _LOUD, level.max() - 8)
    label = np.full(len(heard), -1)
    echo = (at >= 0) & loud & (scene.kind != "clean")
    label[echo & ~(middle >= scene.floor_s - 0.05)] = 1
    label[(middle > scene.floor_s + 0.1) & (middle < scene.quiet_s) & loud] = 0
    return Heard(
        heard.astype(np.float16),
        np.concatenate(parts).astype(np.float16),
        np.concatenate(earliest).astype(np.float32),
        at,
        label,
    )


class Side(nn.Module):
    """[batch, frames, LOOK] -> [batch, frames, MARKS]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LOOK * (CONTEXT + 1), HIDDEN)
        self.second = nn.Linear(HIDDEN, MARKS)

    def forward(self, look: Tensor) -> Tensor:
        seen = nn.functional.pad(look, (0, 0, CONTEXT, 0))
        wide = seen.unfold(1, CONTEXT + 1, 1).transpose(2, 3).flatten(2)
        found: Tensor = self.second(torch.relu(self.first(wide)))
        return found


class Match(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heard, self.sent = Side(), Side()
        self.bias = nn.Parameter(torch.full((len(DECAYS_S),), -7.0))
        self.null = nn.Parameter(torch.tensor(-0.1))
        ages = np.arange(FRAMES)[:, None] - np.arange(FRAMES)[None]
        fades = [np.where(ages >= 0, np.exp(-FRAME_S * ages / s), 0) for s in DECAYS_S]
        self.register_buffer("fade", torch.tensor(np.stack(fades), dtype=torch.float32))

    def forward(self, heard: Tensor, sent: Tensor) -> Tensor:
        """Agreement [decays, batch, frames heard, moments]: column c of frame t is the frame
        `c + t - FRAMES + 1` that was sent."""
        agree = torch.einsum("btd,bnd->btn", self.heard(heard), self.sent(sent)) / 4 + self.null
        padded = nn.functional.pad(agree, (FRAMES - 1, FRAMES)).contiguous()
        batch, across, along = padded.stride()
        shape = (len(heard), FRAMES, sent.shape[1] + FRAMES - 1)
        moments = padded.as_strided(shape, (batch, across + along, along))
        return torch.einsum("ktu,bum->kbtm", self.fade, moments)


@dataclass(frozen=True)
class Batch:
    heard: Tensor
    sent: Tensor
    earliest: Tensor
    at: Tensor
    label: Tensor
    begins_s: Tensor


def drawn(rng: Generator, calls: list[Heard], size: int = 12) -> Batch:
    """Stretches of calls that hold something known, with what other agents said added."""
    rows: list[tuple[Any, ...]] = []
    while len(rows) < size:
        call = calls[int(rng.integers(len(calls)))]
        known = np.flatnonzero(call.label >= 0)
        if len(known) < 8 or len(call.label) < FRAMES:
            continue
        last = len(call.label) - FRAMES
        start = int(np.clip(rng.choice(known) - rng.integers(5, FRAMES - 5), 0, last))
        inside = slice(start, start + FRAMES)
        sent, earliest = call.sent, call.earliest
        while len(sent) < SENT:
            other = calls[int(rng.integers(len(calls)))]
            sooner = np.where(other.earliest < NEVER, other.earliest - rng.uniform(0, 15), NEVER)
            sent, earliest = np.concatenate([sent, other.sent]), np.append(earliest, sooner)
        at = np.where(call.at[inside] < SENT, call.at[inside], -1)
        begins = np.float32(start * FRAME_S)
        rows.append(
            (call.heard[inside], sent[:SENT], earliest[:SENT], at, call.label[inside], begins)
        )
    heard, sent, earliest, at, label, begins_s = (
        np.stack(column) for column in zip(*rows, strict=True)
    )
    return Batch(
        torch.from_numpy(heard.astype(np.float32)),
        torch.from_numpy(sent.astype(np.float32)),
        torch.from_numpy(earliest.astype(np.float32)),
        torch.from_numpy(at.astype(np.int64)),
        torch.from_numpy(label.astype(np.int64)),
        torch.from_numpy(begins_s.astype(np.float32)),
    )


def losses(match: Match, batch: Batch) -> tuple[Tensor, Tensor]:
    """Is it the agent's voice; and at which moment was it played?"""
    agreement = match(batch.heard, batch.sent)
    moments = agreement.shape[-1]
    frame = torch.arange(FRAMES)[:, None]
    sent = torch.arange(moments)[None] + frame - (FRAMES - 1)
    exists = (sent >= 0) & (sent < SENT)
    ends_s = batch.begins_s[:, None, None] + (frame[None] + 1) * FRAME_S
    played = batch.earliest[:, sent.clamp(0, SENT - 1)] <= ends_s + 0.05
    agreement = agreement.masked_fill(~(exists[None] & played)[None], -30)
    odds = torch.logsumexp(agreement, -1)
    known, own = batch.label >= 0, batch.label == 1
    cross = nn.functional.binary_cross_entropy_with_logits(
        odds + match.bias[:, None, None], own.float()[None].expand_as(odds), reduction="none"
    )
    weight = torch.where(own, 1.0, 1.5) * known
    is_own = (cross * weight[None]).sum() / (weight.sum() * len(DECAYS_S))
    column = batch.at - frame[:, 0][None] + FRAMES - 1
    near = [
        agreement.gather(3, (column + off).clamp(0, moments - 1)[None, ..., None].expand(
            len(DECAYS_S), -1, -1, 1
        ))[..., 0]
        for off in (-1, 0, 1)
    ]  # fmt: skip
    there = own & (batch.at >= 0)
    when = (odds - torch.logsumexp(torch.stack(near), 0)) * there[None]
    return is_own, when.sum() / (len(DECAYS_S) * there.sum() + 1)


def matched(calls: list[Heard], steps: int, seed: int) -> Match:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    match = Match()
    optimizer = torch.optim.AdamW(match.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, max(steps, 2), pct_start=0.1)
    shown, began = np.zeros(2), time.monotonic()
    for step in range(1, steps + 1):
        is_own, when = losses(match, drawn(rng, calls))
        optimizer.zero_grad()
        (is_own + 0.3 * when).backward()
        nn.utils.clip_grad_norm_(match.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        shown += (is_own.item(), when.item())
        if step % 100 == 0:
            print(f"step {step} {shown / 100} {time.monotonic() - began:.0f} s", flush=True)
            shown[:] = 0
    return match


def network_weights(match: Match) -> dict[str, NDArray[np.floating]]:
    """As own_voice.npz has them."""
    out: dict[str, NDArray[np.floating]] = {}
    for name, side in (("heard", match.heard), ("sent", match.sent)):
        for part in ("first", "second"):
            layer = getattr(side, part)
            out[f"{name}.{part}"] = layer.weight.detach().numpy().T.astype(np.float16)
            out[f"{name}.{part}_bias"] = layer.bias.detach().numpy()
    out["bias"], out["null"] = match.bias.detach().numpy(), match.null.detach().numpy()
    return out


# What follows from the evidence


@dataclass(frozen=True)
class Frames:
    """Of all stretches of speech: evidence [frames, 3], the model's logit, what is right, weight,
    and whether no echo was there, so that nothing should change."""

    evidence: Tensor
    logit: Tensor
    label: Tensor
    weight: Tensor
    clean: Tensor


def frames_of(scenes: list[echoes.Scene], model: FrameModel) -> Frames:
    columns: list[list[NDArray[np.float64]]] = [[], [], [], [], []]
    for scene in scenes:
        samples, voice, floor_s = scene.heard.astype(np.int16), voice_of(scene), scene.floor_s
        for start_s, end_s in stretches(samples):
            begin = int(max(start_s - 1, 0) * RATE) // 400 * 400
            part = samples[begin : int(end_s * RATE) // 400 * 400]
            if not part.size:
                continue
            said, _ = model.run(part[None], model.blank_state()[None])
            evidence = Comparison().evidence(part, voice, (begin + part.size) / RATE)
            at = begin / RATE + (np.arange(len(evidence)) + 0.5) * FRAME_S
            weight = np.where(at < start_s - 0.2, 0.3, 1.0)
            if floor_s == floor_s:
                weight[(at > floor_s - 0.1) & (at < floor_s + 0.2)] = 0
                weight[at > floor_s + 1.6] = 0
            p = np.clip(said[0].astype(np.float64), 1e-5, 1 - 1e-5)
            for column, values in zip(
                columns,
                (evidence, np.log(p / (1 - p)), at > floor_s + 0.2, weight,
                 np.full(len(at), scene.kind == "clean")),
                strict=True,
            ):  # fmt: skip
                column.append(np.asarray(values, np.float64))
    return Frames(*(torch.tensor(np.concatenate(c), dtype=torch.float32) for c in columns))


class Consequence(nn.Module):
    """Evidence -> what is taken off a logit and added to it, [frames, 2]."""

    def __init__(self, evidence: Tensor) -> None:
        super().__init__()
        self.mean, self.spread = evidence.mean(0), evidence.std(0)
        self.inner = nn.Linear(evidence.shape[1], INNER)
        self.outer = nn.Linear(INNER, 2)
        with torch.no_grad():
            self.outer.bias.copy_(torch.tensor([-2.0, -3.0]))

    def forward(self, evidence: Tensor) -> Tensor:
        inner = torch.tanh(self.inner((evidence - self.mean) / self.spread))
        found: Tensor = torch.sigmoid(self.outer(inner)) * torch.tensor(REACH)
        return found

    def weights(self) -> dict[str, NDArray[np.floating]]:
        return {
            "mean": self.mean.numpy(),
            "spread": self.spread.numpy(),
            "inner": self.inner.weight.detach().numpy().T,
            "inner_bias": self.inner.bias.detach().numpy(),
            "outer": self.outer.weight.detach().numpy().T,
            "outer_bias": self.outer.bias.detach().numpy(),
            "reach": np.array(REACH, np.float32),
        }


def followed(frames: Frames, wrong: float, seed: int, steps: int = 600) -> Consequence:
    """`wrong`: how much an echo that is taken for a caller weighs against a caller who is not."""
    torch.manual_seed(seed)
    found = Consequence(frames.evidence)
    optimizer = torch.optim.AdamW(found.parameters(), lr=0.01, weight_decay=0.01)
    weight = frames.weight * torch.where(frames.label > 0, 1.0, wrong)
    for step in range(steps):
        if step == steps * 7 // 10:
            optimizer.param_groups[0]["lr"] = 0.002
        some = torch.randint(0, len(weight), (8192,))
        less, more = found(frames.evidence[some]).T
        moved = more - less
        cross = nn.functional.binary_cross_entropy_with_logits(
            frames.logit[some].clamp(-_SURE, _SURE) + moved, frames.label[some], reduction="none"
        )
        loss = (cross * weight[some]).mean() + UNMOVED * (moved**2 * frames.clean[some]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def write(path: Path, known: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **known)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["echoes"], help="sets below the cache")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--wrong", type=float, default=16.0, help="see `followed`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    parser.add_argument("--out", type=Path, default=own_voice.WEIGHTS)
    parser.add_argument("--keep", action="store_true", help="the networks that --out has")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths = [
        path
        for name in arguments.data
        for path in sorted((cache_folder() / name / splits.Side.TRAIN).glob("[0-9]*.npz"))
    ]
    scenes = [echoes.load(path) for path in paths if ".part" not in path.name]
    if arguments.keep:
        known = dict(np.load(arguments.out))
    else:
        calls = [heard_of(scene) for scene in scenes]
        known = network_weights(matched(calls, arguments.steps, arguments.seed))
        write(arguments.out, known)
    own_voice.WEIGHTS = arguments.out
    own_voice.weights.cache_clear()
    model = FrameModel(arguments.model, interface=INTERFACE)
    consequence = followed(frames_of(scenes, model), arguments.wrong, arguments.seed)
    write(arguments.out, known | consequence.weights())
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from models.interruption.data import features
from models.interruption.export import export as exporting
from models.interruption.export.export import export
from models.interruption.export.whole_numbers import (
    LARGEST,
    inputs_of,
    rounded,
    taps_of,
)
from models.interruption.train.network import Network, Shape
from models.interruption.train.widen import widened

METADATA = {"interface": "bargein/1"}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    network = Network(Shape(width=16, dilations=(1, 4), memory=8, pair=(3.0, 0.6, -2.0)))
    network.eval()
    return network


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(48_000) * rng.uniform(0, 3000, 48_000)).astype(np.int16)


@pytest.fixture(scope="module")
def session(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("exported") / "one.onnx"
    export(network, METADATA, path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def by_file(
    session: onnxruntime.InferenceSession, audio: np.ndarray, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    found = session.run(["probabilities", "next_state"], {"audio": audio, "state": state})
    return found[0], found[1]


def blank(session: onnxruntime.InferenceSession, batch: int = 1) -> np.ndarray:
    return np.zeros((batch, session.get_inputs()[1].shape[1]), np.float32)


def by_network(network: Network, audio: np.ndarray) -> np.ndarray:
    heard = torch.from_numpy(np.stack([features.of(one) for one in audio]))
    with torch.no_grad():
        probabilities: np.ndarray = torch.sigmoid(network(heard)["floor"]).numpy()
    return probabilities


def test_the_exported_file_says_what_the_network_says_of_what_it_was_trained_with(
    network: Network, session: onnxruntime.InferenceSession, noise: np.ndarray
) -> None:
    quieter = (noise[::-1] // 8).astype(np.int16)
    both = np.stack([noise, quieter])
    found, _ = by_file(session, both, blank(session, 2))
    assert found.shape == (2, 120)
    assert np.abs(found - by_network(network, both)).max() < 1e-4


def test_pieces_with_a_state_give_what_the_whole_gives(
    session: onnxruntime.InferenceSession, noise: np.ndarray
) -> None:
    whole, last = by_file(session, noise[None], blank(session))
    state, pieces, at = blank(session), [], 0
    for frames in (1, 4, 4, 2, 40, 1, 8, 60):
        piece, state = by_file(session, noise[None, at * 400 : (at + frames) * 400], state)
        pieces.append(piece)
        at += frames
    assert np.abs(np.concatenate(pieces, axis=1) - whole).max() < 1e-5
    assert np.abs(state - last).max() < 1e-3 * np.abs(last).max()


def test_in_whole_numbers_it_says_nearly_the_same_and_the_same_in_any_pieces(
    network: Network, session: onnxruntime.InferenceSession, noise: np.ndarray, tmp_path: Path
) -> None:
    inputs = inputs_of(network, torch.from_numpy(features.of(noise)[None]))
    export(network, METADATA, tmp_path / "whole.onnx", inputs)
    whole = onnxruntime.InferenceSession(str(tmp_path / "whole.onnx"))
    exact, _ = by_file(session, noise[None], blank(session))
    found, _ = by_file(whole, noise[None], blank(whole))
    assert 0 < np.abs(found - exact).max() < 0.02
    first, state = by_file(whole, noise[None, :4000], blank(whole))
    second, _ = by_file(whole, noise[None, 4000:], state)
    assert np.abs(np.concatenate([first, second], axis=1) - found).max() < 1e-3

    stored = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.load(tmp_path / "whole.onnx").graph.initializer
    }
    for i in (1, 2):
        weight = stored[f"convolutions.{i}.weight"]
        assert weight.dtype == np.int8
        assert 55 < np.abs(weight).max(axis=0).min() <= np.abs(weight).max() <= LARGEST
    assert stored["convolutions.0.weight"].dtype == np.float32


def test_taps_side_by_side_give_what_the_convolution_gives(network: Network) -> None:
    for block in network.blocks:
        x = torch.randn(2, 16, 30)
        weight = block.conv.weight.permute(2, 1, 0).flatten(0, 1)
        product = taps_of(block, x) @ weight + block.conv.bias
        assert torch.allclose(product.transpose(1, 2), block(x), atol=1e-5)


def test_what_goes_into_a_block_is_measured_over_all_scenes(network: Network) -> None:
    x = torch.randn(300, 20, features.SIZE)
    x[0] *= 5  # the loudest comes first
    inputs = inputs_of(network, x)
    assert len(inputs) == 2
    with torch.no_grad():
        stem = torch.relu(network.norms[0](network.stem(x.transpose(1, 2))))
    assert inputs[0].peak == pytest.approx(float(stem.max()))
    taps = taps_of(network.blocks[0], stem).flatten(0, 1)
    assert torch.allclose(inputs[0].moments, (taps.T @ taps / len(taps)).double(), rtol=1e-3)


def test_rounding_makes_up_for_itself_where_inputs_go_together() -> None:
    torch.manual_seed(6)
    x = torch.randn(4000, 8) @ torch.randn(8, 48) + 0.1 * torch.randn(4000, 48)
    weight = torch.randn(48, 16)
    moments = (x.T @ x / len(x)).double()

    def error(whole: torch.Tensor, scales: torch.Tensor) -> float:
        return float((x @ (whole.float() * scales) - x @ weight).pow(2).mean())

    whole, scales = rounded(weight, moments)
    assert whole.dtype == torch.int8
    assert int(whole.abs().max()) <= LARGEST
    assert 2 * 255 * LARGEST < 2**15, "two products fit into the sums of processors without VNNI"
    plain = torch.round(weight / scales)
    assert error(whole, scales) < 0.3 * error(plain, scales)
    alone, _ = rounded(weight, torch.eye(48).double())
    assert torch.equal(alone, plain.to(torch.int8)), "nothing goes together: to the nearest"


@pytest.fixture
def command(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Callable[[], None]]:
    """Runs `export --int8 set` on the network, in a cache of its own."""
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    (tmp_path / "interruption" / "set").mkdir(parents=True)
    saved = {
        "weights": network.state_dict(), "shape": network.shape.as_dict(),
        "training_data_sha256": "of nothing",
    }  # fmt: skip
    torch.save(saved, tmp_path / "best.pt")

    def run() -> None:
        names = {"checkpoint": tmp_path / "best.pt", "out": tmp_path / "out.onnx"}
        told = names | {"threshold": 0.5, "threshold-origin": "a guess", "int8": "set"}
        arguments = [str(part) for k, v in told.items() for part in (f"--{k}", v)]
        monkeypatch.setattr(sys, "argv", ["export", *arguments])
        exporting.main()

    return tmp_path, run


def test_ranges_come_from_the_first_shard_of_the_set(
    command: tuple[Path, Callable[[], None]], network: Network
) -> None:
    root, run = command
    shards = torch.randn(2, 3, 20, features.SIZE).half().numpy()
    for number, x in enumerate(shards):
        np.savez(root / "interruption" / "set" / f"train-{number:03d}.npz", x=x)
    run()
    stored = {one.name: one for one in onnx.load(root / "out.onnx").graph.initializer}
    (first, _) = inputs_of(network, torch.from_numpy(shards[0].astype(np.float32)))
    step = numpy_helper.to_array(stored["convolutions.1.step"])
    assert step.item() == pytest.approx(first.peak / 255)


def test_a_set_without_shards_is_refused_by_name(
    command: tuple[Path, Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = command
    with pytest.raises(SystemExit):
        run()
    told = capsys.readouterr().err
    assert f"--int8: no shards for training in {root / 'interruption' / 'set'}" in told
    assert not (root / "out.onnx").exists()


def test_the_same_weights_give_the_same_bytes(network: Network, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        export(network, METADATA, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_wider_network_starts_from_what_the_smaller_one_says(
    network: Network, noise: np.ndarray
) -> None:
    larger = Network(Shape(width=24, dilations=(1, 4), memory=20, pair=(3.0, 0.6, -2.0)))
    larger.load_state_dict(widened(network.state_dict(), larger))
    x = torch.from_numpy(features.of(noise))[None]
    with torch.no_grad():
        before, after = network(x), larger.eval()(x)
    for name in before:
        assert torch.allclose(before[name], after[name], atol=1e-4), name
    larger.train()(x)["floor"].sum().backward()
    assert float(larger.head.weight.grad[:, 8:20].abs().min()) > 0, "what is new can be learnt from"
    with pytest.raises(ValueError, match="does not fit"):
        widened(larger.state_dict(), network)


def test_a_second_of_speech_is_worth_what_the_pair_says(network: Network) -> None:
    logits = network.said(torch.full((1, 80), 20.0))
    assert float(logits[0, 39]) == pytest.approx(3.0 * 1.0, abs=1e-3)
    assert float(logits[0, 79]) == pytest.approx(3.0 * 1.5, abs=1e-3)  # and never more


def test_without_dropout_training_hears_all_and_with_it_not(noise: np.ndarray) -> None:
    torch.manual_seed(4)
    network = Network(Shape(width=16, dilations=(1, 4), memory=8))
    network.norms.eval()  # a normalisation changes with each batch it is trained on
    heard = torch.from_numpy(features.of(noise)[None])

    def apart(**dropout: float) -> float:
        both = [network(heard, **dropout)["floor"] for _ in range(2)]
        return float((both[0] - both[1]).detach().abs().max())

    assert apart(dropout=0.0) == 0
    assert apart() > 0
    network.eval()
    assert apart() == 0

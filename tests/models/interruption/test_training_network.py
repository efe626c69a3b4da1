import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from models.interruption import features  # noqa: E402
from models.interruption.export import export  # noqa: E402
from models.interruption.network import Network, Served, Shape  # noqa: E402

METADATA = {"interface": "bargein/1"}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    return Network(Shape(width=16, dilations=(1, 4), memory=8, pair=(3.0, 0.6, -2.0))).eval()


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(48_000) * rng.uniform(0, 3000, 48_000)).astype(np.int16)


def test_the_ear_in_the_graph_equals_the_one_that_made_the_training_set(network, noise):
    with torch.no_grad():
        by_features = torch.sigmoid(network(torch.from_numpy(features.of(noise))[None])["floor"])
        served = Served(network)
        by_samples, _ = served(torch.from_numpy(noise)[None], torch.zeros(1, served.state_size))
    assert torch.allclose(by_features, by_samples, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # the exporter warns about itself
def test_the_exported_file_equals_the_network_and_is_the_same_each_time(network, noise, tmp_path):
    for name in ("one.onnx", "two.onnx"):
        export(network, METADATA, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()

    served = Served(network)
    blank = np.zeros((1, served.state_size), np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "one.onnx"))
    exported = session.run(None, {"audio": noise[None], "state": blank})
    with torch.no_grad():
        expected = served(torch.from_numpy(noise)[None], torch.from_numpy(blank))
    for found, wanted in zip(exported, expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < 1e-3 * max(1, np.abs(wanted.numpy()).max())
    assert np.abs(exported[0] - expected[0].numpy()).max() < 1e-4


def test_the_state_is_as_long_as_its_parts(network):
    assert Served(network).state_size == sum(network.sizes())


def test_a_second_of_speech_is_worth_what_the_pair_says():
    network = Network(Shape(width=16, dilations=(1, 4), memory=8, pair=(3.0, 0.6, -2.0)))
    silence, spoken = torch.zeros(1, 59), torch.full((1, 80), 20.0)
    logits, kept = network.said(spoken, silence)
    assert float(logits[0, 39]) == pytest.approx(3.0 * 1.0, abs=1e-3)
    assert float(logits[0, 79]) == pytest.approx(3.0 * 1.5, abs=1e-3)  # and never more
    assert kept.shape == silence.shape

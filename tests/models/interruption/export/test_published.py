from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from gateway.engines.interruption.decision import first_detection
from tests.collection import RECORDINGS, listed

ROOT = Path(__file__).parents[4]
MODEL = ROOT / "models" / "interruption" / "interruption.onnx"
FRAME = 400


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples: np.ndarray
    samples, _ = soundfile.read(
        RECORDINGS / "speech_libri" / "1992-141719-0000.flac", dtype="int16"
    )
    return samples[: len(samples) // FRAME * FRAME][: 16_000 * 3]


def blank(session: onnxruntime.InferenceSession, batch: int = 1) -> np.ndarray:
    return np.zeros((batch, session.get_inputs()[1].shape[1]), np.float32)


def run(
    session: onnxruntime.InferenceSession, audio: np.ndarray, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    found = session.run(["probabilities", "next_state"], {"audio": audio, "state": state})
    return found[0], found[1]


def in_pieces(
    session: onnxruntime.InferenceSession, audio: np.ndarray, frames: list[int]
) -> np.ndarray:
    state, found, at = blank(session), [], 0
    for count in frames:
        piece = audio[None, at : at + count * FRAME]
        probabilities, state = run(session, piece, state)
        found.append(probabilities[0])
        at += count * FRAME
    return np.concatenate(found)


def test_the_card_says_what_the_engine_needs(session: onnxruntime.InferenceSession) -> None:
    card = session.get_modelmeta().custom_metadata_map
    assert card["interface"] == "bargein/1"
    assert (card["sample_rate"], card["frame_samples"]) == ("16000", "400")
    assert 0.0 < float(card["default_threshold"]) < 1.0
    assert card["license"] == "Apache-2.0"
    for field in ("name", "version", "threshold_origin", "training_data_sha256"):
        assert card[field]


def test_it_is_small_enough() -> None:
    assert MODEL.stat().st_size <= 6_000_000


def test_inputs_and_outputs_are_as_promised(session: onnxruntime.InferenceSession) -> None:
    assert [(i.name, i.type) for i in session.get_inputs()] == [
        ("audio", "tensor(int16)"),
        ("state", "tensor(float)"),
    ]
    assert [o.name for o in session.get_outputs()] == ["probabilities", "next_state"]


def test_a_probability_for_each_25_ms(
    session: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    probabilities, state = run(session, speech[None], blank(session))
    assert probabilities.shape == (1, len(speech) // FRAME)
    assert state.shape == blank(session).shape
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("frames", [[4] * 30, [1] * 120, [40, 1, 3, 7, 29, 2, 38], [119, 1]])
def test_streaming_in_any_pieces_equals_the_whole_window(
    session: onnxruntime.InferenceSession, speech: np.ndarray, frames: list[int]
) -> None:
    whole, _ = run(session, speech[None], blank(session))
    assert np.abs(in_pieces(session, speech, frames) - whole[0]).max() < 1e-4


def test_a_frame_does_not_depend_on_what_comes_after_it(
    session: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    whole, _ = run(session, speech[None], blank(session))
    other = speech.copy()
    other[60 * FRAME :] = 12_000
    changed, _ = run(session, other[None], blank(session))
    assert np.array_equal(whole[0, :60], changed[0, :60])


def test_callers_of_one_batch_do_not_hear_each_other(
    session: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    quiet = (speech // 8).astype(np.int16)
    together, _ = run(session, np.stack([speech, quiet]), blank(session, 2))
    alone, _ = run(session, quiet[None], blank(session))
    assert np.abs(together[1] - alone[0]).max() < 1e-4


def test_the_same_audio_gives_the_same_answer(
    session: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    first, _ = run(session, speech[None], blank(session))
    again, _ = run(session, speech[None], blank(session))
    assert np.array_equal(first, again)


def test_silence_is_no_interruption(session: onnxruntime.InferenceSession) -> None:
    silence = np.zeros((1, 48_000), np.int16)
    probabilities, _ = run(session, silence, blank(session))
    threshold = float(session.get_modelmeta().custom_metadata_map["default_threshold"])
    assert probabilities.max() < threshold


def test_a_spoken_sentence_is_an_interruption(
    session: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    probabilities, _ = run(session, speech[None], blank(session))
    threshold = float(session.get_modelmeta().custom_metadata_map["default_threshold"])
    assert probabilities.max() >= threshold


def test_coughs_of_people_it_never_heard_are_no_interruptions(
    session: onnxruntime.InferenceSession,
) -> None:
    coughs = [RECORDINGS / row["path"] for row in listed() if row["label"] == "cough"]
    threshold = float(session.get_modelmeta().custom_metadata_map["default_threshold"])
    fired = 0
    for path in coughs:
        samples, _ = soundfile.read(path, dtype="int16")
        samples = samples[: len(samples) // FRAME * FRAME][:48_000]
        probabilities, _ = run(session, samples[None], blank(session))
        fired += first_detection(probabilities[0], threshold, 2) is not None
    assert len(coughs) >= 40
    assert fired <= 0.05 * len(coughs)  # what a caller may be cut off by, at most

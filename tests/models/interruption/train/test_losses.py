import numpy as np
import pytest
import torch

from models.interruption.train.losses import loss_of
from models.interruption.train.network import Network, Shape
from models.interruption.train.shards import Shards

SCENES = 3


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    made = Network(Shape(width=16, dilations=(1,), memory=8))
    made.eval()
    return made


def test_who_agrees_with_the_teachers_pays_less_whatever_the_labels_say(shards: Shards) -> None:
    shards.ask([(network(1), None)], ending=0.0)
    batch = shards.batch(np.arange(SCENES))
    opinion = torch.logit(batch["opinion"])
    out = network(1)(batch["x"])
    agreeing = loss_of(out | {"floor": opinion}, batch, taught=1.0)
    differing = loss_of(out | {"floor": opinion + 2.0}, batch, taught=1.0)
    assert agreeing["opinion"] < differing["opinion"]
    assert agreeing["floor"] == differing["floor"] == 0
    assert "opinion" not in loss_of(out, batch)


@pytest.mark.parametrize("label_alone", ["voice_backchannel", "word_call", "cough", "echo"])
def test_of_words_alone_and_of_what_is_no_caller_the_label_is_asked_and_no_teacher(
    shards: Shards, label_alone: str
) -> None:
    shards.fields["kinds"] = np.array(["voice_floor", "speech_libri", label_alone])
    shards.ask([(network(1), None)], ending=0.0)
    batch = shards.batch(np.arange(SCENES))
    assert torch.isnan(batch["opinion"]).all(dim=1).tolist() == [True, False, True]
    out = network(2)(batch["x"])
    for taught in (0.3, 1.0):
        losses = loss_of(out, batch, taught)
        plain = torch.nn.functional.binary_cross_entropy_with_logits(
            out["floor"], batch["label"], reduction="none"
        ).mean(dim=1)
        share = torch.tensor([1.0, 1 - taught, 1.0])
        assert losses["floor"].item() == pytest.approx(
            float((share * plain).mean().detach()), rel=1e-5
        )
        assert torch.isfinite(losses["opinion"])

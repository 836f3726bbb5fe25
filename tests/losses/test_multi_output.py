"""Cross entropy and Dice loss against sums written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import distributed

from common.classes import ClassScheme
from common.losses.multi_output import CrossEntropyDiceLoss, MultiOutputLoss, dynamic_class_weights

THREE = ClassScheme(
    [
        {"name": name, "color": [0, 0, 0], "label": label, "channel": label - 1}
        for label, name in enumerate(("normal", "tumour", "others"), start=1)
    ],
    skipped="normal",
)
# Three labelled pixels of four: normal, tumour, tumour.
LABELS = torch.tensor([[1, 2], [0, 2]], dtype=torch.uint8)[None, None]
PROBABILITIES = [(0.5, 0.25, 0.25), (0.2, 0.7, 0.1), (0.9, 0.05, 0.05), (0.1, 0.3, 0.6)]


def logits() -> torch.Tensor:
    return torch.log(torch.tensor(PROBABILITIES)).T.reshape(1, 3, 2, 2)


def crossed(weights) -> float:
    return -(weights[0] * math.log(0.5) + weights[1] * (math.log(0.7) + math.log(0.3))) / 3


def dice(weights) -> float:
    """Return the Dice loss: 1 − 2 · probability on a class's pixels / (these pixels + all probability of the class)."""
    normal = 2 * 0.5 / (1 + 0.5 + 0.2 + 0.1)
    tumour = 2 * (0.7 + 0.3) / (2 + 0.25 + 0.7 + 0.3)
    return weights[0] * (1 - normal) + weights[1] * (1 - tumour) + weights[2] * 1.0


def test_dynamic_weights_are_one_minus_the_share_with_a_mean_of_1():
    # 1 - 1/10, 1 - 3/10, 1 - 6/10 add up to 2.
    found = dynamic_class_weights(torch.tensor([10.0, 30.0, 60.0]))
    assert found.tolist() == pytest.approx([0.9 * 1.5, 0.7 * 1.5, 0.4 * 1.5])
    assert dynamic_class_weights(torch.tensor([0.0, 8.0])).tolist() == pytest.approx([2.0, 0.0])
    assert dynamic_class_weights(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "weights"),
    # One pixel of three is normal, two are tumour: 2/3, 1/3 and 1, times 3/2.
    [("dynamic", (1.0, 0.5, 1.5)), (None, (1, 1, 1)), ([0.3, 2.0, 1.1], (0.3, 2.0, 1.1))],
)
def test_cross_entropy_and_dice_are_weighted_and_added(given, weights):
    loss = CrossEntropyDiceLoss(THREE, given)
    assert loss(logits(), LABELS).item() == pytest.approx(crossed(weights) + dice(weights), abs=1e-4)


def test_sums_run_over_the_batch_and_not_over_its_images():
    loss = CrossEntropyDiceLoss(THREE)
    halves = logits().reshape(1, 3, 4).movedim(2, 0).reshape(4, 3, 1, 1), LABELS.reshape(4, 1, 1, 1)
    assert loss(*halves).item() == pytest.approx(loss(logits(), LABELS).item(), rel=1e-6)


def test_unlabelled_pixels_have_no_gradient_and_a_batch_of_them_no_loss():
    values = logits().requires_grad_()
    CrossEntropyDiceLoss(THREE)(values, LABELS).backward()
    assert values.grad is not None
    assert not values.grad[0, :, 1, 0].any()
    assert values.grad[0, :, 0, 0].any()
    assert CrossEntropyDiceLoss(THREE)(logits(), torch.zeros_like(LABELS)).item() == 0


def test_outputs_are_weighted_and_compared_each_with_its_own_labels():
    other = torch.tensor([[3, 3], [1, 0]], dtype=torch.uint8)[None, None]
    one = CrossEntropyDiceLoss(THREE)
    first, second, third = logits(), logits().flip(2), torch.zeros(1, 3, 2, 2)
    loss = MultiOutputLoss(one, [1.0, 0.5, 0.25], [0, 0, 1])
    found = loss(torch.cat([first, second, third], dim=1), torch.cat([LABELS, other], dim=1))
    wanted = one(first, LABELS) + 0.5 * one(second, LABELS) + 0.25 * one(third, other)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert MultiOutputLoss(one, [1.0, 0.0], [0, 1])(
        torch.cat([first, third], dim=1), torch.cat([LABELS, other], dim=1)
    ).item() == pytest.approx(one(first, LABELS).item(), rel=1e-6)
    with pytest.raises(ValueError, match="6 channels are not 3 outputs of 3"):
        loss(torch.cat([first, second], dim=1), LABELS)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        CrossEntropyDiceLoss(THREE, [1, 2])
    with pytest.raises(ValueError, match='weights must be "dynamic"'):
        CrossEntropyDiceLoss(THREE, "static")


def _gradient_of_one_process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    scale = torch.ones(1, requires_grad=True)
    mine = slice(rank, rank + 1)
    loss = CrossEntropyDiceLoss(THREE)(scale * logits()[:, :, mine], LABELS[:, :, mine])
    loss.backward()
    torch.save((loss.item(), scale.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_loss_and_together_the_gradient_of_one(tmp_path: Path):
    """DDP averages the gradients of the processes."""
    torch.multiprocessing.spawn(_gradient_of_one_process, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    scale = torch.ones(1, requires_grad=True)
    whole = CrossEntropyDiceLoss(THREE)(scale * logits(), LABELS)
    whole.backward()
    assert [loss for loss, _ in found] == pytest.approx([whole.item()] * 2, rel=1e-5)
    assert torch.stack([gradient for _, gradient in found]).mean() == pytest.approx(scale.grad.item(), rel=1e-4)

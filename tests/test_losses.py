"""The weighted cross entropy against sums written out."""

import math

import pytest
import torch

from common.classes import ClassScheme
from common.losses import WeightedCrossEntropyLoss, inverse_share_weights

# Two labelled pixels of four: carcinoma with probability 0.5, stroma with probability 0.25.
LABELS = torch.tensor([[1, 0], [0, 4]], dtype=torch.uint8)[None, None]
WEIGHTS = [0.8, 0.5, 0.5, 0.6, 0.5, 0.5]
TOTAL = 0.8 * math.log(2) + 0.6 * math.log(4)


def logits():
    probability = torch.full((1, 7, 2, 2), 0.5 / 6)
    probability[0, 1, 0, 0] = 0.5
    probability[0, :, 1, 1] = 0.75 / 6
    probability[0, 4, 1, 1] = 0.25
    return torch.log(probability)


@pytest.mark.parametrize(("normalisation", "divisor"), [("pixels", 4), ("labelled", 2), ("weights", 1.4)])
def test_unlabelled_pixels_count_only_in_eq_1s_divisor(scheme, normalisation, divisor):
    loss = WeightedCrossEntropyLoss(scheme, WEIGHTS, normalisation)
    assert loss(logits(), LABELS).item() == pytest.approx(TOTAL / divisor, rel=1e-5)


def test_what_is_predicted_on_unlabelled_pixels_does_not_matter(scheme):
    loss = WeightedCrossEntropyLoss(scheme, WEIGHTS)
    changed = logits()
    changed[0, :, 0, 1] = torch.randn(7)
    assert loss(changed, LABELS).item() == pytest.approx(loss(logits(), LABELS).item())


@pytest.mark.parametrize("normalisation", ["pixels", "labelled", "weights"])
def test_a_batch_without_labels_has_no_loss_and_no_gradient(scheme, normalisation):
    x = torch.randn(1, 7, 2, 2, requires_grad=True)
    value = WeightedCrossEntropyLoss(scheme, WEIGHTS, normalisation)(x, torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_weights_are_one_minus_the_share():
    assert inverse_share_weights([10, 30, 60]) == pytest.approx([0.9, 0.7, 0.4])
    with pytest.raises(ValueError, match="no labelled pixels"):
        inverse_share_weights([0, 0])


def test_the_number_of_weights_is_checked(scheme):
    with pytest.raises(ValueError, match="5 class weights for 6 classes"):
        WeightedCrossEntropyLoss(scheme, WEIGHTS[:5])


TUMOUR = ClassScheme(
    [
        {"name": "normal", "color": [60, 170, 80], "label": 1, "channel": None},
        {"name": "tumour", "color": [220, 40, 40], "label": 2, "channel": 0},
    ],
    activation="sigmoid",
)


@pytest.mark.parametrize(("normalisation", "divisor"), [("pixels", 4), ("labelled", 3), ("weights", 0.5 + 2 * 3.0)])
def test_a_sigmoid_s_two_classes_are_weighted_by_label_and_bare_pixels_left_out(normalisation, divisor):
    labels = torch.tensor([[2, 0], [1, 2]], dtype=torch.uint8)[None, None]
    # Probabilities of tumour: 1/2, whatever, 1/4, 4/5.
    logits = torch.tensor([[0.0, 7.0], [-math.log(3), math.log(4)]])[None, None]
    expected = 3.0 * math.log(2) - 0.5 * math.log(3 / 4) - 3.0 * math.log(4 / 5)
    loss = WeightedCrossEntropyLoss(TUMOUR, [0.5, 3.0], normalisation)
    assert loss(logits, labels).item() == pytest.approx(expected / divisor, rel=1e-5)

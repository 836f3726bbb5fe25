"""The weighted cross entropy against sums written out."""

import math

import pytest
import torch

from common.classes import ClassScheme
from common.data.class_weights import class_weights, inverse_share_weights
from common.losses import WeightedCrossEntropyLoss, l2_parameter_groups
from common.metrics.segmentation import MeanLoss
from common.networks import MRN

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


def test_predictions_on_unlabelled_pixels_do_not_matter(scheme):
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
def test_a_sigmoids_two_classes_are_weighted_by_label_and_unlabelled_pixels_ignored(normalisation, divisor):
    labels = torch.tensor([[2, 0], [1, 2]], dtype=torch.uint8)[None, None]
    # Probabilities of tumour: 1/2, whatever, 1/4, 4/5.
    logits = torch.tensor([[0.0, 7.0], [-math.log(3), math.log(4)]])[None, None]
    expected = 3.0 * math.log(2) - 0.5 * math.log(3 / 4) - 3.0 * math.log(4 / 5)
    loss = WeightedCrossEntropyLoss(TUMOUR, [0.5, 3.0], normalisation)
    assert loss(logits, labels).item() == pytest.approx(expected / divisor, rel=1e-5)


def test_the_optimisers_step_is_that_of_the_loss_with_its_l2_term():
    """A step of plain gradient descent on 0·output + λ‖W‖² moves only convolutions' weights, by 2λW times the rate."""
    network = MRN(channels=(2, 4), resolutions=2, upsample="transposed")
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimiser = torch.optim.SGD(l2_parameter_groups(network, 0.005), lr=0.1)
    (0.0 * network.eval()(torch.rand(1, 6, 8, 8)).sum()).backward()
    optimiser.step()
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    convolutions = {n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)}
    assert moved == {f"{name}.weight" for name in convolutions}
    for name, value in network.named_parameters():
        expected = before[name] * (1 - 0.1 * 2 * 0.005) if name in moved else before[name]
        torch.testing.assert_close(value, expected)


def test_the_mean_loss_is_that_of_all_batches_as_one():
    """Batches with 3 and 1 labelled pixels: the loss is not the mean of their means."""
    loss = WeightedCrossEntropyLoss(TUMOUR, normalisation="labelled")
    labels = torch.tensor([[[2, 0], [1, 2]], [[1, 0], [0, 0]]], dtype=torch.uint8)[:, None]
    logits = torch.tensor([[[0.3, 7.0], [-1.0, 2.0]], [[3.0, 1.0], [1.0, 1.0]]])[:, None]
    metric = MeanLoss(loss)
    metric.update((logits[:1], labels[:1]))
    metric.update((list(logits[1:]), list(labels[1:])))
    assert metric.compute() == pytest.approx(loss(logits, labels).item(), rel=1e-6)
    metric.reset()
    with pytest.raises(ValueError, match="no labelled pixel"):
        metric.compute()


def test_class_weights_by_probability():
    """Probabilities are 0.1, 0.4, 0.5 and 0: the mean of their 1 / p, 10, 2.5 and 2, is 14.5 / 3."""
    pixels = [10, 40, 50, 0]
    assert class_weights(pixels) == pytest.approx([0.9, 0.6, 0.5, 1.0])
    assert class_weights(pixels, "inverse") == pytest.approx([30 / 14.5, 7.5 / 14.5, 6 / 14.5, 0.0])
    expected = [1 / math.log(1.02 + p) for p in (0.1, 0.4, 0.5, 0.0)]
    assert class_weights(pixels, "inverse_log") == pytest.approx(expected)
    with pytest.raises(ValueError, match="class weighting must be one of complement, inverse, inverse_log, not 'even'"):
        class_weights(pixels, "even")
    for weighting in ("inverse", "inverse_log"):
        with pytest.raises(ValueError, match="no labelled pixels"):
            class_weights([0, 0], weighting)

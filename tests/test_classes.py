"""From logits to labels."""

import numpy as np
import pytest
import torch

from common.classes import ClassScheme

SOFTMAX = [
    {"name": "a", "color": (255, 0, 0), "label": 1, "channel": 2},
    {"name": "b", "color": (0, 255, 0), "label": 2, "channel": 1},
]
SIGMOID = [
    {"name": "normal", "color": (0, 255, 0), "label": 1, "channel": None},
    {"name": "tumour", "color": (255, 0, 0), "label": 2, "channel": 0},
]


def test_a_channel_without_class_is_never_predicted():
    scheme = ClassScheme(SOFTMAX, unnamed_channels=[0])
    logits = torch.tensor([[9.0, 2.0, 1.0], [9.0, 1.0, 2.0]]).reshape(2, 3, 1, 1)
    assert scheme.labels_from_logits(logits).flatten().tolist() == [2, 1]
    assert scheme.probabilities(logits).sum(dim=1).flatten().tolist() == pytest.approx([1, 1])
    assert scheme.probabilities(logits)[0, :, 0, 0].argmax() == 1


def test_one_channel_with_a_threshold():
    scheme = ClassScheme(SIGMOID, activation="sigmoid", threshold=0.3)
    logits = torch.logit(torch.tensor([0.29, 0.31])).reshape(2, 1, 1, 1)
    assert scheme.labels_from_logits(logits).flatten().tolist() == [1, 2]
    assert scheme.probabilities(logits)[:, :, 0, 0].numpy() == pytest.approx(
        np.array([[0.71, 0.29], [0.69, 0.31]]), abs=1e-6
    )


def test_labels_become_channels_and_unlabelled_pixels_are_ignored():
    scheme = ClassScheme(SOFTMAX, unnamed_channels=[0])
    channels = scheme.target_channels(torch.tensor([[0, 1, 2]], dtype=torch.uint8), ignore_index=-100)
    assert channels.tolist() == [[-100, 2, 1]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"classes": SOFTMAX}, "output channels"),
        ({"classes": SOFTMAX[1:], "unnamed_channels": [0]}, "labels must be"),
        ({"classes": SIGMOID}, "one with channel 0|every class has one"),
        ({"classes": SOFTMAX, "unnamed_channels": [0], "activation": "tanh"}, "activation"),
        ({"classes": SOFTMAX, "unnamed_channels": [0], "skipped": "c"}, "no class 'c'"),
        ({"classes": [SOFTMAX[0], {**SOFTMAX[1], "name": "a"}], "unnamed_channels": [0]}, "one name"),
    ],
)
def test_schemes_that_do_not_fit_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        ClassScheme(**arguments)


def test_a_network_of_other_channels_is_refused(scheme):
    with pytest.raises(ValueError, match="7 output channels|6 output channels"):
        scheme.labels_from_logits(torch.zeros(1, 6, 2, 2))


def test_a_class_needs_the_threshold_and_otherwise_is_what_is_left():
    named = [{"name": n, "color": [0, 0, 0], "label": i + 1, "channel": i} for i, n in enumerate(("a", "b", "c"))]
    scheme = ClassScheme(named, threshold=0.45, otherwise="b")
    # c is the most probable of the others that reach 0.45, though b is likelier still; none does; a does.
    probabilities = torch.tensor([[0.02, 0.52, 0.46], [0.44, 0.13, 0.43], [0.45, 0.1, 0.45]]).T[None, :, None]
    assert scheme.labels_from_probabilities(probabilities).tolist() == [[[3, 2, 1]]]
    assert scheme.labels_from_logits(torch.log(probabilities * 7)).tolist() == [[[3, 2, 1]]]
    sure = ClassScheme(named, threshold=0.5, otherwise="unlabelled")
    assert sure.labels_from_probabilities(probabilities).tolist() == [[[2, 0, 0]]]
    assert ClassScheme(named).labels_from_probabilities(probabilities).tolist() == [[[2, 1, 1]]]
    with pytest.raises(ValueError, match="no class 'd'"):
        ClassScheme(named, otherwise="d")

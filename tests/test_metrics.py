"""Figures from a confusion matrix written by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.metrics import ContextReliance, LabelledPixelConfusion, MeanIoU, confusion_matrix, scores

#          predicted  a  b  c  none
MATRIX = np.array([[6, 2, 0, 2], [1, 9, 0, 0], [0, 0, 0, 0]])


def test_scores_of_a_matrix_made_by_hand():
    found = scores(MATRIX, ["a", "b", "c"])
    a, b, c = (found["classes"][name] for name in "abc")
    assert (a["iou"], a["recall"], a["precision"]) == pytest.approx((6 / 11, 6 / 10, 6 / 7))
    assert a["f1"] == pytest.approx(2 * 6 / (10 + 7))
    assert (b["iou"], b["recall"], b["precision"]) == pytest.approx((9 / 12, 9 / 10, 9 / 11))
    assert c == {"labelled_pixels": 0, "iou": None, "recall": None, "precision": None, "f1": None}
    assert found["mean_iou"] == pytest.approx((6 / 11 + 9 / 12) / 2)
    assert found["pixel_accuracy"] == pytest.approx(15 / 20)
    assert found["not_predicted"] == pytest.approx(0.1)


def test_only_labelled_pixels_count():
    truth = np.array([[1, 1, 2, 0], [2, 2, 0, 0]], dtype=np.uint8)
    prediction = np.array([[1, 2, 2, 1], [0, 2, 2, 1]], dtype=np.uint8)
    assert confusion_matrix(prediction, truth, 2).tolist() == [[1, 1, 0], [0, 2, 1]]


def test_labels_outside_the_scheme_are_refused():
    with pytest.raises(ValueError, match="above 2"):
        confusion_matrix(np.array([[1]]), np.array([[3]]), 2)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(np.zeros((2, 2)), np.zeros((2, 3)), 2)


def one_hot_logits(labels, channels=7):
    return torch.nn.functional.one_hot(labels.long(), channels).movedim(-1, 1).float() * 9


def test_batches_add_up_to_one_global_matrix(scheme):
    truth = torch.randint(0, 7, (4, 8, 8), dtype=torch.uint8)
    prediction = torch.randint(1, 7, (4, 8, 8), dtype=torch.uint8)
    metric, mean = LabelledPixelConfusion(scheme), MeanIoU(scheme)
    for i in range(2):
        batch = (one_hot_logits(prediction[2 * i : 2 * i + 2]), truth[2 * i : 2 * i + 2, None])
        metric.update(batch)
        mean.update(batch)
    whole = confusion_matrix(prediction.numpy(), truth.numpy(), 6)
    assert np.array_equal(metric.compute(), whole)
    assert mean.compute() == pytest.approx(scores(whole, scheme.names)["mean_iou"])


def test_context_reliance_is_what_is_lost_without_the_right_context(scheme):
    """Networks that copy the label from one view's red channel: the answer is known."""
    labels = torch.randint(1, 7, (8, 1, 4, 4), dtype=torch.uint8)
    image = labels.float().repeat(1, 9, 1, 1)
    elsewhere = torch.full_like(image, 6.0)
    for view, relied in ((0, {"view 2": 0, "view 3": 0}), (2, {"view 2": 0, "view 3": 1})):
        network = lambda x, v=view: one_hot_logits(x[:, 3 * v])  # noqa: E731
        metric = ContextReliance(scheme, network, 3)
        engine = SimpleNamespace(
            state=SimpleNamespace(output=(network(image), labels, image), batch={"elsewhere": elsewhere})
        )
        metric.iteration_completed(engine)
        found = metric.compute()
        assert found["view 2"] == relied["view 2"]
        assert (found["view 3"] > 0.9) == bool(relied["view 3"])
        assert found["views 2+3"] == pytest.approx(found["view 3"])

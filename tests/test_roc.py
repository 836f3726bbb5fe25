"""Binned ROC curves against scikit-learn's of every pixel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.classes import ClassScheme
from common.roc import SlideROC, auc, count_scores, roc_curve, score_bins

TUMOUR = ClassScheme(
    [
        {"name": "normal", "color": [60, 170, 80], "label": 1, "channel": None},
        {"name": "tumour", "color": [220, 40, 40], "label": 2, "channel": 0},
    ],
    activation="sigmoid",
)


@pytest.mark.parametrize(("apart", "spread"), [(0.0, 1.0), (2.0, 1.0), (9.0, 2.0), (0.3, 0.01)])
def test_the_area_is_scikit_learn_s(apart, spread):
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.03
    # Nearly all negatives are sure ones: probabilities below 1e-5, one bin of 65536 equal ones.
    logits = (rng.normal(-12, spread, truth.shape) + apart * truth).astype(np.float32)
    assert auc(count_scores(logits, truth)) == pytest.approx(roc_auc_score(truth, logits), abs=1e-4)


def test_bins_are_in_the_order_of_the_logits():
    logits = np.array([-1e30, -70000, -3.0, -1e-9, 0.0, 1e-7, 2.0, 2.002, 70000.0], dtype=np.float32)
    bins = score_bins(logits).astype(int)
    assert (np.diff(bins) >= 0).all()
    assert len(set(bins.tolist())) == 7
    assert score_bins(np.array([-0.0])) == score_bins(np.array([0.0]))


def test_a_curve_by_hand():
    truth = np.array([True, True, False, False])
    false, true = roc_curve(count_scores(np.array([3.0, 1.0, 2.0, 0.0]), truth))
    assert false.tolist() == [0, 0, 0.5, 0.5, 1]
    assert true.tolist() == [0, 0.5, 0.5, 1, 1]
    assert auc(count_scores(np.array([1.0, 1.0, 1.0, 1.0]), truth)) == 0.5
    assert auc(count_scores(np.array([1.0, 2.0]), truth[:2])) is None


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        count_scores(np.array([np.nan]), np.array([True]))


def test_every_slide_is_counted_apart_and_bare_pixels_not_at_all():
    metric = SlideROC(TUMOUR, 2)
    logits = [torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[5.0, 6.0], [7.0, 8.0]]])]
    labels = [torch.tensor([[[1, 2], [0, 2]]]), torch.tensor([[[1, 1], [0, 0]]])]
    engine = SimpleNamespace(state=SimpleNamespace(batch={"slide": [1, 0]}, output=(logits, labels)))
    metric.iteration_completed(engine)
    counts = metric.compute()
    assert counts.sum(axis=2).tolist() == [[2, 0], [1, 2]]
    assert auc(counts[1]) == 1.0
    assert auc(counts.sum(axis=0)) == pytest.approx(2 / 6)


def test_softmax_schemes_are_refused(scheme):
    with pytest.raises(ValueError, match="must be a sigmoid"):
        SlideROC(scheme, 1)

"""Binned ROC curves against scikit-learn's of every pixel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.classes import ClassScheme
from common.metrics.roc import SlideROC, auc, count_scores, roc_curve, score_bins
from common.reports.roc import ROCReport, compare_curves, read_curve

TUMOUR = ClassScheme(
    [
        {"name": "normal", "color": [60, 170, 80], "label": 1, "channel": None},
        {"name": "tumour", "color": [220, 40, 40], "label": 2, "channel": 0},
    ],
    activation="sigmoid",
    skipped="normal",
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


def test_every_slide_is_counted_separately_and_unlabelled_pixels_not_at_all():
    metric = SlideROC(TUMOUR, 2)
    logits = [torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[5.0, 6.0], [7.0, 8.0]]])]
    labels = [torch.tensor([[[1, 2], [0, 2]]]), torch.tensor([[[1, 1], [0, 0]]])]
    engine = SimpleNamespace(state=SimpleNamespace(batch={"slide": [1, 0]}, output=(logits, labels)))
    metric.iteration_completed(engine)
    counts = metric.compute()
    assert counts.sum(axis=2).tolist() == [[2, 0], [1, 2]]
    assert auc(counts[1]) == 1.0
    assert auc(counts.sum(axis=0)) == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("background", "pixels", "lowest"),
    [("keep", [2, 1], [0, 0]), ("exclude", [1, 1], [0, 0]), ("as_class", [2, 1], [1, 0])],
)
def test_targets_without_tissue_have_the_skipped_class_or_do_not_count(background, pixels, lowest):
    metric = SlideROC(TUMOUR, 1, background)
    logits = [torch.tensor([[[5.0]]]), torch.tensor([[[1.0, 2.0]]])]
    labels = [torch.tensor([[[1]]]), torch.tensor([[[1, 2]]])]
    batch = {"slide": [0, 0], "tissue": [False, True]}
    metric.iteration_completed(SimpleNamespace(state=SimpleNamespace(batch=batch, output=(logits, labels))))
    counts = metric.compute()[0]
    assert counts.sum(axis=1).tolist() == pixels
    assert counts[:, score_bins(np.array([-np.inf]))[0]].tolist() == lowest
    assert auc(counts) == (0.5 if background == "keep" else 1.0)


def test_a_report_has_the_results_of_all_pixels_and_of_each_slide(tmp_path):
    """Two slides of 4 and 2 pixels, one without tumour; results by hand."""
    scores = [([3.0, 1.0, 2.0, -1.0], [True, True, False, False]), ([4.0, -2.0], [False, False])]
    counts = np.stack([count_scores(np.array(logits), np.array(truth)) for logits, truth in scores])
    # At 0.5 the logits above 0 are called tumour.
    matrices = np.array([[[1, 1, 0], [0, 2, 0]], [[1, 1, 0], [0, 0, 0]]])
    data = [{"image": "a.tif"}, {"image": "b.tif"}]
    figures = ROCReport(TUMOUR, counts, matrices, data).write(tmp_path)
    # Pairs ranked correctly: 3 beats 2, -1, -2; 1 beats -1, -2; of 2 x 4.
    assert figures["pooled"]["auc"] == pytest.approx(5 / 8)
    assert figures["pooled"]["sensitivity"] == 1.0
    assert figures["pooled"]["specificity"] == 0.5
    assert figures["pooled"]["dice"] == pytest.approx(2 * 2 / (2 + 4))
    assert figures["slides"][0]["auc"] == pytest.approx(3 / 4)
    assert figures["slides"][1]["auc"] is None
    assert (figures["mean_auc_of_slides"], figures["slides_with_both_classes"]) == (pytest.approx(3 / 4), 1)
    _, curve = read_curve(tmp_path)
    assert np.trapezoid(curve.true_positives, curve.false_positives) == pytest.approx(5 / 8)
    assert (tmp_path / "roc.png").stat().st_size > 10_000


def test_a_written_curve_is_the_measured_one_with_fewer_points(tmp_path):
    rng = np.random.default_rng(1)
    truth = rng.random(100_000) < 0.01
    counts = count_scores(rng.normal(4.0 * truth, 1.0), truth)
    matrix = np.array([[[9, 1, 0], [1, 9, 0]]])
    area = ROCReport(TUMOUR, counts[None], matrix, [{"image": "a.tif"}]).write(tmp_path)["pooled"]["auc"]
    _, curve = read_curve(tmp_path)
    assert len(curve.false_positives) <= 2002
    assert np.trapezoid(curve.true_positives, curve.false_positives) == pytest.approx(area, abs=5e-5)


def test_curves_of_several_networks_are_one_table_and_one_picture(tmp_path):
    for name, apart in (("near", 1.0), ("far", 3.0)):
        truth = np.arange(2000) % 2 == 0
        counts = count_scores(np.random.default_rng(0).normal(apart * truth, 1.0), truth)
        ROCReport(TUMOUR, counts[None], np.ones((1, 2, 3), dtype=int), [{"image": "a.tif"}]).write(tmp_path / name)
    table = compare_curves({"U-Net": tmp_path / "near", "MRN": tmp_path / "far"}, tmp_path / "both")
    assert table["network"].tolist() == ["U-Net", "MRN"]
    assert table["auc"].tolist() == [pytest.approx(0.76, abs=0.02), pytest.approx(0.983, abs=0.01)]
    assert (tmp_path / "both" / "roc.png").exists()
    with pytest.raises(ValueError, match="no such curve"):
        compare_curves({"MRN": tmp_path}, tmp_path / "both")


def test_softmax_schemes_are_refused(scheme):
    with pytest.raises(ValueError, match="must be a sigmoid"):
        SlideROC(scheme, 1)

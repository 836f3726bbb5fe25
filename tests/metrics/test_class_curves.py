"""Classes against the rest at every threshold, against sums written out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.metrics.class_curves import ClassCurves, break_even_point, class_log_odds, threshold_table
from common.metrics.roc import score_bins
from common.metrics.segmentation import PrimaryOutput
from common.reports.class_curves import ClassCurvesReport
from tests.losses.test_multi_output import THREE


def pixels(count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``(2, 3, 20, 20)`` that correlate with the labels, a tenth of which are unlabelled."""
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 1, 20, 20), dtype=torch.uint8)
    truth = torch.nn.functional.one_hot(labels[:, 0].long(), 4)[..., 1:].movedim(-1, 1)
    return 1.5 * truth + torch.randn(2, 3, 20, 20), labels


def test_log_odds_are_those_of_the_softmax():
    logits, _ = pixels()
    probability = torch.softmax(logits, dim=1)
    assert torch.allclose(class_log_odds(logits, THREE), torch.log(probability / (1 - probability)), atol=1e-4)


def test_scores_over_thresholds_are_those_of_the_pixels():
    logits, labels = pixels()
    metric = ClassCurves(THREE)
    for item in range(2):
        metric.update((logits[item : item + 1], labels[item : item + 1], None))
    counts = metric.compute()
    probability = torch.softmax(logits, dim=1).numpy()
    labelled = labels.numpy()[:, 0] > 0
    for tissue in THREE.classes:
        truth = (labels.numpy()[:, 0] == tissue.label)[labelled]
        score = probability[:, tissue.channel][labelled]
        table = threshold_table(counts[tissue.label - 1]).set_index("threshold")
        for threshold in (0.2, 0.45, 0.8):
            said = score >= threshold
            hit = (said & truth).sum()
            row = table.loc[threshold]
            assert row["iou"] == pytest.approx(hit / (said | truth).sum(), abs=5e-3)
            assert row["precision"] == pytest.approx(hit / said.sum(), abs=5e-3)
            assert row["recall"] == row["sensitivity"] == pytest.approx(hit / truth.sum(), abs=5e-3)
            assert row["specificity"] == pytest.approx((~said & ~truth).sum() / (~truth).sum(), abs=5e-3)
        figures = ClassCurvesReport(THREE, counts).results()[tissue.name]
        assert figures["auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-3)
        assert figures["highest_iou"]["iou"] == table["iou"].max()


def test_targets_without_tissue_are_certainly_the_skipped_class_or_excluded():
    logits, labels = pixels()
    both, skipped, excluded = (ClassCurves(THREE, background) for background in ("keep", "as_class", "exclude"))
    both.update((logits[:1], labels[:1], None))
    for metric in (skipped, excluded):
        metric.update((logits, labels, [True, False]))
    assert np.array_equal(excluded.compute(), both.compute())
    added = skipped.compute() - both.compute()
    # Normal tissue is found at any threshold, the others at none.
    lowest, highest = score_bins(np.array([-np.inf, np.inf]))
    assert added[0, :, highest].sum() == added[0].sum() == (labels[1] > 0).sum()
    assert added[1, :, lowest].sum() == added[1].sum() == (labels[1] > 0).sum()


def test_the_break_even_point_is_where_two_columns_cross():
    table = pd.DataFrame(
        {"threshold": [0.1, 0.2, 0.3, 0.4], "one": [0.2, 0.4, 0.6, 0.0], "other": [0.9, 0.7, 0.5, 0.0]}
    )
    assert break_even_point(table, "one", "other") == {"value": pytest.approx(0.55), "threshold": 0.3}
    # Columns that are both 0 do not cross.
    assert break_even_point(table.iloc[[0, 1]], "one", "other") == {}
    undefined = table.assign(one=[0.2, np.nan, 0.6, np.nan])
    assert break_even_point(undefined, "one", "other")["threshold"] == 0.3


def test_files_are_written_and_a_class_without_pixels_is_left_out(tmp_path):
    logits, labels = pixels()
    labels[labels == 3] = 0
    metric = ClassCurves(THREE)
    metric.update((logits, labels, None))
    ClassCurvesReport(THREE, metric.compute()).write(tmp_path)
    assert list(json.loads((tmp_path / "curves.json").read_text())) == ["normal", "tumour"]
    assert len(pd.read_csv(tmp_path / "curves.csv")) == 2 * 99
    assert (tmp_path / "curves.png").exists()


def test_of_several_outputs_the_first_is_scored_with_the_first_labels():
    item = {"pred": torch.arange(9.0)[:, None, None], "label": torch.tensor([1, 2])[:, None, None]}
    predicted, labels = PrimaryOutput(THREE)([item])
    assert predicted[0].flatten().tolist() == [0, 1, 2]
    assert labels[0].flatten().tolist() == [1]

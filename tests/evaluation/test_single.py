"""One slide's label map against its annotation, both written by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from common.evaluation.single import score_prediction
from common.outputs.pyramid import write_label_pyramid


def test_scores_of_one_slide_lie_next_to_its_prediction(tmp_path, scheme):
    Image.fromarray(np.full((96, 128, 3), 200, dtype=np.uint8)).save(tmp_path / "a.png")
    truth = np.where(np.arange(128) < 64, 1, 4).astype(np.uint8)[None].repeat(96, axis=0)
    Image.fromarray(truth).save(tmp_path / "truth.png")
    predicted = truth.copy()
    predicted[:, 32:64] = 4
    write_label_pyramid(tmp_path / "prediction.tif", iter([predicted]), predicted.shape, 0.5, scheme)
    files = tmp_path / "prediction.tif", tmp_path / "truth.png", tmp_path / "a.png"
    figures, folder = score_prediction(*files, scheme, mpp=0.5)
    # Class 1: half found. Class 4: all found, and half as much again that is not.
    assert figures["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert figures["pixel_accuracy"] == pytest.approx(3 / 4)
    assert folder == tmp_path / "scores"
    assert json.loads((folder / "scores.json").read_text())["mean_iou"] == pytest.approx(figures["mean_iou"])
    assert score_prediction(*files, scheme, tmp_path / "elsewhere", mpp=0.5)[1] == tmp_path / "elsewhere"

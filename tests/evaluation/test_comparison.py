"""Two models on one slide, their label maps written by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from common.evaluation.comparison import _distinct, compare_runs
from common.outputs.pyramid import write_label_pyramid
from common.reports.scores import ScoreReport


@pytest.fixture
def folder(tmp_path, scheme):
    """Truth: left half carcinoma, right half stroma. ``good`` has it right, ``bad`` calls a quarter of it wrongly."""
    Image.fromarray(np.full((96, 128, 3), 200, dtype=np.uint8)).save(tmp_path / "a.png")
    truth = np.where(np.arange(128) < 64, 1, 4).astype(np.uint8)[None].repeat(96, axis=0)
    Image.fromarray(truth).save(tmp_path / "a_labels.png")
    entry = {"image": "a.png", "label": "a_labels.png", "mpp": 0.5}
    (tmp_path / "d.json").write_text(json.dumps({"testing": [entry]}))
    bad = truth.copy()
    bad[:, 32:64] = 4
    for run, labels in (("good", truth), ("bad", bad)):
        (tmp_path / run / "a").mkdir(parents=True)
        write_label_pyramid(tmp_path / run / "a" / "prediction.tif", iter([labels]), labels.shape, 0.5, scheme)
    return tmp_path


def test_one_row_per_model_and_a_picture_per_slide(folder):
    command = [sys.executable, "-m", "common", "compare", folder / "good", f"worse={folder / 'bad'}"]
    command += ["--datalist", folder / "d.json", "--output", folder / "out"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    rows = (folder / "out" / "comparison.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["model", "good", "worse"]
    assert rows[1].split(",")[1] == "1.0"
    # Carcinoma: half found. Stroma: all found, and half as much again that is not.
    assert float(rows[2].split(",")[1]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert "worse" in result.stdout
    picture = np.asarray(Image.open(folder / "out" / "a.png"))
    assert picture.shape[1] == 4 * 128 + 3 * 8


def test_a_subset_of_classes(folder, scheme):
    table = compare_runs({"bad": folder / "bad"}, folder / "d.json", scheme, folder / "out", classes=["stroma"])
    # Only pixels that are stroma count, and all of them are found.
    assert table["mean iou"].item() == 1
    assert "IoU carcinoma" not in table


def test_a_run_without_the_slide_is_named(folder, scheme):
    with pytest.raises(ValueError, match=r"other/a/prediction\.tif: no such prediction"):
        compare_runs({"x": folder / "other"}, folder / "d.json", scheme, folder / "out")


def test_scores_over_patches_and_over_slides_in_one_table(folder, scheme):
    matrix = np.zeros((1, len(scheme), len(scheme) + 1), dtype=np.int64)
    matrix[0, 0, 0], matrix[0, 0, 3], matrix[0, 3, 3] = 3, 1, 4
    scheme.ordinal = True
    try:
        ScoreReport(scheme, matrix, [{"image": "a.png"}]).write(folder / "scores")
        runs, evaluated = {"bad": folder / "bad"}, {"bad": folder / "scores"}
        table = compare_runs(runs, folder / "d.json", scheme, folder / "out", evaluated=evaluated)
    finally:
        scheme.ordinal = False
    assert table["over"].tolist() == ["patches", "slides"]
    assert table["mean iou"].tolist() == pytest.approx([(3 / 4 + 4 / 5) / 2, (1 / 2 + 2 / 3) / 2])
    # Carcinoma and stroma are grades 0 and 3 of 5 here: of 4 pixels one is 3 of at most 5 off, and stroma's 3.
    assert table["BACH score"].tolist() == pytest.approx([1 - 3 / (5 + 4 * 3), 1 - 3072 * 3 / (3072 * 5 + 6144 * 3)])
    with pytest.raises(ValueError, match=r"other/scores\.json: no such scores\. Run evaluate\.yaml"):
        compare_runs(runs, folder / "d.json", scheme, folder / "out", evaluated={"bad": folder / "other"})


def test_no_picture_replaces_another():
    """Slides called as another's second region, as its probabilities, or as the figures; case aside."""
    assert _distinct(["a", "a", "a_2", "A"]) == ["a", "a_2", "a_2_2", "A_3"]
    assert _distinct(["classes", "b", "b_probabilities"]) == ["classes_2", "b", "b_probabilities_2"]

"""Diagnosis from label maps: what is counted, and what may be learnt from."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import Pipeline

from common.annotations import PredictedLabels
from common.classes import ClassScheme
from common.diagnosis import Diagnosis, DiagnosisTask, LabelHistograms, cross_validate
from common.diagnosis.crossvalidation import folds
from common.diagnosis.tasks import balanced, classifier
from common.outputs.pyramid import write_label_pyramid
from common.slides import open_slide
from common.superpixels import Region, Superpixels
from common.superpixels.estimators import load_fitted, save_fitted
from tests.conftest import write_pyramid

NAMES = ("epithelium", "stroma", "necrosis")
SCHEME = ClassScheme([{"name": n, "color": (9, 9, 9), "label": i + 1, "channel": i} for i, n in enumerate(NAMES)])
TASKS = [
    {"name": "which", "groups": {"benign": ["benign"], "malignant": ["DCIS", "invasive"]}, "pathologists": 0.8},
    {"name": "invasion", "groups": {"DCIS": ["DCIS"], "invasive": ["invasive"]}},
]


def histograms(tmp_path: Path) -> LabelHistograms:
    """Four superpixels of which one is not labelled, and five pairs that touch, two of them with it."""
    Image.fromarray(np.zeros((2, 4, 3), dtype=np.uint8)).save(tmp_path / "slide.png")
    found = Superpixels(Region(open_slide(tmp_path / "slide.png", mpp=1.0), 1.0))
    found.labels[:] = [[0, 0, 1, 1], [2, 2, 2, 3]]
    found.count = 4
    return LabelHistograms.count(found, np.array([2, 1, 2, 0], dtype=np.uint8), NAMES)


def test_labels_and_pairs_of_touching_superpixels_are_counted(tmp_path):
    found = histograms(tmp_path)
    assert found.frequency.tolist() == [1, 2, 0]
    # 0 touches 1 and 2; 1 touches 2; with the unlabelled one nothing counts.
    assert found.cooccurrence.tolist() == [[0, 2, 0], [0, 1, 0], [0, 0, 0]]
    expected = [1 / 3, 2 / 3, 0, 0, 2 / 3, 0, 1 / 3, 0, 0]
    assert found.features().tolist() == pytest.approx(expected)
    assert LabelHistograms.from_json(found.to_json()).features().tolist() == pytest.approx(expected)
    assert found.plus(found).features().tolist() == pytest.approx(expected)


def test_without_a_label_the_rest_is_counted_as_if_it_were_not_there(tmp_path):
    assert histograms(tmp_path).features(["stroma"]).tolist() == [1, 0, 0, 0, 0]
    assert histograms(tmp_path).features(["stroma", "epithelium"]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no class fat in label maps of epithelium, stroma, necrosis"):
        histograms(tmp_path).features(["fat"])


def test_no_case_is_on_both_sides_and_every_region_is_tested_once():
    random = np.random.default_rng(0)
    numbers = random.integers(0, 3, 90)
    cases = [f"case {i // 3}" for i in range(90)]
    tested = []
    for learn, test in folds(numbers, cases, 10, seed=4):
        assert not {cases[i] for i in learn} & {cases[i] for i in test}
        tested += test.tolist()
    assert sorted(tested) == list(range(90))
    with pytest.raises(ValueError, match="too few for 31 folds"):
        next(folds(numbers, cases, 31, seed=0))


def test_classes_are_sampled_equally():
    numbers = np.array([0] * 7 + [1] * 3 + [2] * 5)
    drawn = balanced(numbers, np.random.default_rng(1))
    assert np.bincount(numbers[drawn]).tolist() == [3, 3, 3]
    assert len(set(drawn.tolist())) == 9


@pytest.mark.parametrize("kind", ["SVM", pytest.param("MLP", marks=pytest.mark.all)])
def test_features_that_identify_cases_do_not_help(kind):
    """Regions of a case share features that have nothing to do with their diagnosis: were a case on both sides, its
    regions would be told from each other."""
    random = np.random.default_rng(5)
    cases = np.repeat(np.arange(40), 3)
    numbers = np.repeat(np.arange(40) % 2, 3)
    own = random.normal(size=(40, 12))[cases] + 0.01 * random.normal(size=(120, 12))
    names = [str(case) for case in cases]
    blind = cross_validate(own, numbers, names, kind, 10, 3, seed=0)
    assert 0.2 < blind.accuracy < 0.7
    telling = np.concatenate([own, 3.0 * numbers[:, None]], axis=1)
    found = cross_validate(telling, numbers, names, kind, 10, 3, seed=0)
    assert found.accuracy > 0.9
    assert found.confusion.sum() == pytest.approx(120)
    assert found.mean_recall == pytest.approx(found.accuracy, abs=0.01)


def cohort(folder: Path, first: int = 0) -> tuple[list[dict], Path]:
    """Eighteen regions of nine cases; carcinoma in situ has necrosis, invasive carcinoma little stroma."""
    random = np.random.default_rng(first)
    shares = {"benign": (0.08, 0.92, 0.0), "DCIS": (0.3, 0.5, 0.2), "invasive": (0.7, 0.3, 0.0)}
    items = []
    for number in range(first, first + 18):
        diagnosis = list(shares)[number // 2 % 3]
        image = folder / f"region_{number}.png"
        if not image.exists():
            Image.new("RGB", (64, 64), (220, 180, 200)).save(image)
            labels = random.choice([1, 2, 3], (16, 16), p=shares[diagnosis]).astype(np.uint8)
            labels = np.kron(labels, np.ones((4, 4), dtype=np.uint8))
            prediction = folder / "maps" / image.stem / "prediction.tif"
            write_label_pyramid(prediction, iter([labels]), (64, 64), 1.0, SCHEME)
        items.append({"image": str(image), "mpp": 1.0, "diagnosis": diagnosis, "case": number // 2})
    return items, folder / "maps"


def diagnosis_of(folder: Path, maps: Path) -> Diagnosis:
    return Diagnosis(TASKS, {"own": maps}, folder / "cache", stroma=["stroma"], mpp=1.0, area=25.0)


def test_from_label_maps_to_tables_and_to_new_slides(tmp_path):
    items, maps = cohort(tmp_path)
    diagnosis = diagnosis_of(tmp_path, maps)
    figures = diagnosis.cross_validate(items, tmp_path / "out", folds=3, repeats=2)
    assert figures["which"]["regions"] == {"benign": 6, "malignant": 12}
    assert figures["invasion"]["regions"] == {"DCIS": 6, "invasive": 6}
    accuracies = {(r["classifier"], r["labels"]): r["accuracy"] for r in figures["invasion"]["results"]}
    assert set(accuracies) == {(c, labels) for c in ("SVM", "MLP") for labels in ("all labels", "no stroma")}
    assert accuracies[("SVM", "all labels")] > 0.9
    table = (tmp_path / "out" / "diagnosis.csv").read_text().splitlines()
    assert table[0].startswith("task,SVM own all labels,SVM own no stroma,MLP own all labels")
    assert table[1].endswith(",80")
    assert {"diagnosis.png", "confusion_SVM_own.png"} <= {path.name for path in (tmp_path / "out").iterdir()}

    diagnosis.fit(items, tmp_path / "model.skops", "own")
    new, _ = cohort(tmp_path, first=18)
    answers = diagnosis_of(tmp_path, maps).apply([*items[:2], *new], tmp_path / "model.skops", "own", tmp_path)
    assert answers["learnt from"].tolist() == [True, True] + [False] * 18
    true = ["benign" if item["diagnosis"] == "benign" else "malignant" for item in new]
    assert (answers["which"][2:] == true).mean() > 0.8


def test_what_would_be_wrong_is_refused(tmp_path):
    items, maps = cohort(tmp_path)
    diagnosis = diagnosis_of(tmp_path, maps)
    with pytest.raises(ValueError, match="cases 3 were trained on"):
        diagnosis.cross_validate(items, tmp_path, 3, 1, trained_on=[{"image": "x.tif", "case": "3"}])
    with pytest.raises(ValueError, match=r"region_0\.png: its datalist entry has no 'case'"):
        diagnosis.cross_validate([{**items[0], "case": None}], tmp_path)
    with pytest.raises(ValueError, match="no task asks for the diagnosis 'atypia'"):
        diagnosis.cross_validate([{**items[0], "diagnosis": "atypia"}], tmp_path)
    with pytest.raises(ValueError, match="no such label map. Segment the slide with output_dir"):
        diagnosis_of(tmp_path, tmp_path / "elsewhere").cross_validate(items, tmp_path, 3)
    with pytest.raises(ValueError, match=r"x\.tif: its datalist entry has no 'case'"):
        diagnosis.cross_validate(items, tmp_path, 3, 1, trained_on=[{"image": "x.tif"}])
    with pytest.raises(ValueError, match="task 'which': too few regions and cases for 10 folds, ask for 9 at most"):
        diagnosis.cross_validate(items, tmp_path)
    with pytest.raises(ValueError, match="task 'invasion': 0 cases of 'invasive', at least 2 are needed"):
        diagnosis.cross_validate([item for item in items if item["diagnosis"] != "invasive"], tmp_path, 3)
    diagnosis.fit(items, tmp_path / "model.skops", "own")
    coarser = Diagnosis(TASKS, {"own": maps}, tmp_path / "cache", mpp=1.0, area=64.0)
    with pytest.raises(ValueError, match=r"fitted to label maps with division .*'area': 25\.0.* have .*'area': 64\.0"):
        coarser.apply(items, tmp_path / "model.skops", "own", tmp_path)
    assert not (tmp_path / "diagnoses.csv").exists()


def test_only_what_was_segmented_is_diagnosed(tmp_path):
    """Regions that the label map is not of are no regions without labels."""
    items, maps = cohort(tmp_path)
    summary = maps / "region_0" / "summary.json"
    summary.write_text(json.dumps({"settings": {"regions": [[0, 0, 30, 30], [0, 30, 30, 34]]}}))
    diagnosis = diagnosis_of(tmp_path, maps)
    parts = [{**items[0], "regions": [[10, 10, 20, 40]]}, *items[1:]]
    assert diagnosis.cross_validate(parts, tmp_path / "out", 3, 1)["which"]["regions"]["benign"] == 6
    with pytest.raises(ValueError, match=r"its region \[20, 0, 20, 20\] was not segmented"):
        diagnosis.cross_validate([{**items[0], "regions": [[20, 0, 20, 20]]}, *items[1:]], tmp_path, 3)
    with pytest.raises(ValueError, match="only the regions .* were segmented, not the whole slide"):
        diagnosis.cross_validate(items, tmp_path, 3)


def test_label_maps_are_placed_by_their_own_pixels(tmp_path):
    """On a slide whose pixels are twice as wide as high; at another µm/px of the slide, they are not its own."""
    labels = np.kron(np.array([[1, 2], [3, 1]], dtype=np.uint8), np.ones((20, 30), dtype=np.uint8))
    write_label_pyramid(tmp_path / "prediction.tif", iter([labels]), labels.shape, 1.0, SCHEME)
    pixels = np.full((160, 120, 3), 200, dtype=np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "wide.tif", [pixels], (0.25, 0.5)))
    source = PredictedLabels(tmp_path / "prediction.tif")
    assert source.scheme.names == list(NAMES)
    assert np.array_equal(source.label_map(slide, (80, 60), 1.0, (40, 60)), labels)
    assert np.array_equal(source.label_map(slide, (80, 60), 0.5, (4, 4)), [[1, 1, 2, 2]] * 2 + [[3, 3, 1, 1]] * 2)
    assert source.label_map(slide, (0, 0), 1.0, (4, 4)).tolist() == [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    other = open_slide(write_pyramid(tmp_path / "other.tif", [pixels], (0.5, 1.0)))
    with pytest.raises(ValueError, match=r"do not cover other\.tif"):
        source.label_map(other, (80, 60), 1.0, (4, 4))


def test_without_stroma_in_the_scheme_there_are_no_results_without_it(tmp_path):
    items, maps = cohort(tmp_path)
    diagnosis = Diagnosis(TASKS, {"own": maps}, tmp_path / "cache", stroma=["desmoplastic stroma"], mpp=1.0, area=25.0)
    results = diagnosis.cross_validate(items, tmp_path / "out", 3, 1)["which"]["results"]
    assert {result["labels"] for result in results} == {"all labels"}
    with pytest.raises(ValueError, match="none of desmoplastic stroma is a class of epithelium, stroma, necrosis"):
        diagnosis.fit(items, tmp_path / "model.skops", "own", labels="no stroma")


class _Runs:
    def __reduce__(self):
        return print, ("run",)


def test_a_fitted_model_holds_no_code(tmp_path, capsys):
    fitted = classifier("SVM").fit(np.eye(4), np.array([0, 0, 1, 1]))
    save_fitted(tmp_path / "own.skops", {"kind": "test", "pipeline": fitted})
    assert isinstance(load_fitted(tmp_path / "own.skops", "test")["pipeline"], Pipeline)
    with zipfile.ZipFile(tmp_path / "own.skops") as file:
        assert not [name for name in file.namelist() if name.endswith((".pkl", ".pickle"))]
    save_fitted(tmp_path / "foreign.skops", {"kind": "test", "pipeline": _Runs()})
    with pytest.raises(ValueError, match=r"foreign\.skops: refused, it holds types that could run code"):
        load_fitted(tmp_path / "foreign.skops", "test")
    (tmp_path / "damaged.skops").write_bytes((tmp_path / "own.skops").read_bytes()[:-40])
    with pytest.raises(ValueError, match="not a fitted model of ours, or damaged"):
        load_fitted(tmp_path / "damaged.skops", "test")
    with pytest.raises(ValueError, match="not a superpixel SVM"):
        load_fitted(tmp_path / "own.skops", "superpixel SVM")
    assert "run" not in capsys.readouterr().out


def test_a_diagnosis_belongs_to_one_answer_of_a_task():
    with pytest.raises(ValueError, match="task 'odd': at least two answers, and no diagnosis in two of them"):
        DiagnosisTask.from_config({"name": "odd", "groups": {"a": ["benign"], "b": ["benign"]}})

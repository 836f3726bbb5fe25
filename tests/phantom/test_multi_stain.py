"""Phantoms of several stains, scanners and laboratories."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from skimage.color import rgb2hed

from common.data import load_datalist
from common.data.store import SlideStore
from common.phantom import MULTI_STAIN_CLASSES, write_multi_stain
from common.phantom.layout import Layout
from common.phantom.multi_stain import DEFECTS, MULTI_STAIN, SCANNERS, SOURCES, MultiStainPainter
from common.phantom.paint import Painter
from common.slides import open_slide


@cache
def layout(stain: str) -> Layout:
    return Layout(MULTI_STAIN[stain], 3, 2048, 2048)


def painter(stain: str, scanner: str = "A", source: str = "lab 1") -> MultiStainPainter:
    return MultiStainPainter(layout(stain), 0.5, scanner, source)


# A nest of tumour and the stroma around it.
PLACE = (1560, 1360, 260, 260)


@cache
def brown(stain: str) -> np.ndarray:
    """Amount of diaminobenzidine by colour deconvolution, sharp and without noise."""
    made = painter(stain)
    made.scanner = replace(made.scanner, blur_um=0.1, noise=0.0)
    return rgb2hed(made.image(*PLACE))[..., 2]


@cache
def tumour() -> np.ndarray:
    """Return a mask of the tumour."""
    found = painter("ER").labels(*PLACE) == MULTI_STAIN_CLASSES.by_name("tumour").label
    assert 0.1 < found.mean() < 0.9
    return found


@pytest.mark.parametrize("stain", ["ER", "PR", "Ki67", "HER2"])
def test_immunostains_are_brown_in_epithelium_only(stain):
    assert brown(stain)[tumour()].mean() > 4 * brown(stain)[~tumour()].mean()
    assert brown(stain).max() > 5 * brown("H&E").max()


def test_more_cells_are_positive_where_the_marker_is_commoner():
    found = {stain: brown(stain)[tumour()].mean() for stain in ("ER", "PR", "Ki67")}
    assert found["ER"] > found["PR"] > found["Ki67"]


def test_her2_marks_membranes_and_the_others_nuclei():
    nuclei = brown("ER") > np.percentile(brown("ER")[tumour()], 75)
    around = tumour() & ~nuclei
    assert brown("PR")[nuclei].mean() > 2 * brown("PR")[around].mean()
    assert brown("HER2")[nuclei].mean() < 0.9 * brown("HER2")[around].mean()


def test_what_a_rectangle_shows_does_not_depend_on_the_others_painted():
    made = painter("HER2", "D", "lab 5")
    made.scanner = replace(made.scanner, noise=0.0)
    for defect in made.defects[:3]:
        top, left = (round((at - defect.radius) / 0.5) for at in (defect.y, defect.x))
        whole = made.image(top, left, 260, 260).astype(int)
        part = made.image(top + 130, left + 90, 80, 60).astype(int)
        assert np.abs(whole[130:210, 90:150] - part).max() <= 1


def test_bad_regions_of_every_kind_are_there_are_others_and_look_different():
    made = painter("ER")
    plain = Painter(made.layout, 0.5, replace(made.scanner, noise=0.0))
    made.scanner = plain.scanner
    assert {defect.kind for defect in made.defects} == set(DEFECTS)
    for defect in made.defects[:3]:
        top, left = (round(at / 0.5) - 20 for at in (defect.y, defect.x))
        assert (made.labels(top, left, 40, 40) == MULTI_STAIN_CLASSES.by_name("others").label).mean() > 0.9
        bad, good = (p.image(top - 60, left - 60, 160, 160).astype(float) for p in (made, plain))
        assert np.abs(bad - good).mean() > 1.5
        if defect.kind == "blur":
            assert np.abs(np.diff(bad, axis=0)).mean() < 0.6 * np.abs(np.diff(good, axis=0)).mean()
        if defect.kind == "fold":
            assert bad.mean() < good.mean() - 1.5


@pytest.mark.parametrize(("what", "names"), [("scanner", SCANNERS), ("source", SOURCES)])
def test_scanners_and_laboratories_look_different(what, names):
    looks = [painter("ER", **{what: name}).image(*PLACE)[tumour()].mean(axis=0) for name in names]
    apart = np.abs(np.subtract.outer(looks, looks).diagonal(axis1=1, axis2=3)).max(axis=2)
    assert apart[~np.eye(len(names), dtype=bool)].min() > 1.0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_multi_stain(tmp_path_factory.mktemp("stains"), 1, 0, 0, 0, size=1280, mpp=2.0, seed=900)


@pytest.mark.all
def test_what_is_annotated_is_all_of_some_regions_and_right(written):
    entries = load_datalist(written, "training")
    store = SlideStore(MULTI_STAIN_CLASSES)
    for number, entry in enumerate(entries):
        made = MultiStainPainter(
            Layout(MULTI_STAIN[entry["stain"]], 900 + number, 2560, 2560), 2.0, entry["scanner"], entry["source"]
        )
        slide, labels = open_slide(entry["image"]), store.labels(entry)
        assert 1 <= len(entry["regions"]) <= 3
        found = labels.label_map(slide, (640, 640), 2.0, 1280)
        truth = made.labels(0, 0, 1280, 1280)
        inside = np.zeros_like(found, dtype=bool)
        for top, left, height, width in entry["regions"]:
            inside[top : top + height, left : left + width] = True
        assert np.array_equal(found > 0, inside)
        assert (found == truth)[inside].mean() > 0.985
        assert set(np.unique(found[inside])) == {1, 2, 3}


def test_sections_have_the_stains_and_scanners_that_they_should(tmp_path, monkeypatch):
    monkeypatch.setattr("common.phantom.multi_stain.paint_slide", lambda *_: None)
    monkeypatch.setattr("common.phantom.multi_stain.paint_labels", lambda *_: None)
    monkeypatch.setattr("common.phantom.multi_stain._annotated", lambda *_: {})
    sections = json.loads(write_multi_stain(tmp_path, size=32, mpp=4.0).read_text())
    assert {name: len(entries) for name, entries in sections.items()} == {
        "training": 12,
        "unlabelled": 12,
        "validation": 6,
        "testing": 12,
    }
    training = Counter((entry["stain"], entry["scanner"]) for entry in sections["training"])
    assert len(training) == 12
    assert {source for entry in sections["training"] for source in [entry["source"]]} == {f"lab {i}" for i in "1234"}
    for entry in sections["training"] + sections["validation"] + sections["unlabelled"]:
        assert entry["stain"] != "H&E"
        assert (entry["scanner"], entry["source"]) != ("D", "lab 5")
        assert entry["seen"] == "seen"
    seen = Counter(entry["seen"] for entry in sections["testing"])
    assert seen == {"seen": 6, "unseen stain": 2, "unseen scanner": 2, "unseen both": 2}
    for entry in sections["testing"]:
        assert (entry["stain"] == "H&E") == (entry["seen"] in ("unseen stain", "unseen both"))
        assert (entry["scanner"] == "D") == (entry["seen"] in ("unseen scanner", "unseen both"))

"""BACH's whole slides as they are distributed, and the patches on which the paper trains."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import shapely

from common.annotations import AnnotatedRegion, read_annotations, write_asap_xml, write_imagescope_xml
from common.data import (
    PatchIndex,
    PatchSubset,
    SlideStore,
    TargetGrid,
    build_patch_index,
    datalist_from_bach,
    load_datalist,
)
from common.data.index import _in_one_tile
from common.phantom import BACH_CLASSES
from common.slides import FieldOfView, PatchReader, open_slide
from tests.conftest import write_pyramid

SIDE = 800
# In level-0 pixels of a slide of 800 a side.
INVASIVE, BENIGN = shapely.box(100, 200, 300, 400), shapely.box(500, 500, 700, 560)


def write_slide(path: Path, glass: int = 0) -> None:
    """Return stained noise, with some columns of glass at the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(90, 200, (SIDE, SIDE, 3)).astype(np.uint8)
    pixels[:, SIDE - glass :] = 245
    write_pyramid(path, [pixels], (2.0, 2.0), lossless=True, tile=64)


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Slides as ImageScope annotates them, A03 without annotation, and one of those that nobody annotated."""
    names = {"benign": "Benign", "invasive": "Carcinoma invasive"}
    for number in range(1, 11):
        write_slide(tmp_path / "WSI" / f"A{number:02d}.svs", glass=200)
        if number != 3:
            regions = [AnnotatedRegion(4, INVASIVE), AnnotatedRegion(2, BENIGN)]
            write_imagescope_xml(tmp_path / "WSI" / f"A{number:02d}.xml", regions, BACH_CLASSES, 2.0, names)
    write_slide(tmp_path / "WSI" / "11.svs")
    return tmp_path


def labels_of(datalist: Path, section: str, position: int = 0) -> np.ndarray:
    """Return the label map of the whole slide."""
    item = load_datalist(datalist, section)[position]
    store = SlideStore(BACH_CLASSES)
    return store.labels(item).label_map(store.slide(item), (SIDE / 2, SIDE / 2), 2.0, SIDE)


def test_the_paper_s_split_and_normal_tissue(challenge, tmp_path):
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    assert found.sections == {
        "training": ["A02", "A04", "A06", "A07", "A08", "A09"],
        "validation": ["A10"],
        "testing": ["A05"],
    }
    assert found.left_out == {
        "A01": "in no section of the paper's split",
        "A03": "no A03.xml",
        "11": "one of the challenge's slides without annotation",
    }
    assert found.missing == []
    labels = labels_of(found.path, "testing")
    expected = np.ones((SIDE, SIDE), dtype=np.uint8)
    expected[200:400, 100:300], expected[500:560, 500:700] = 4, 2
    assert np.array_equal(labels, expected)


def test_glass_is_normal_and_scored_as_by_the_challenge(challenge, tmp_path):
    """A model that calls glass benign must not be called faultless."""
    labels = labels_of(datalist_from_bach(challenge, tmp_path / "slide.json").path, "testing")
    assert (labels[:400, 600:] == 1).all()
    within = datalist_from_bach(challenge, tmp_path / "tissue.json", normal_within="tissue")
    labels = labels_of(within.path, "testing")
    # Near its border tissue and glass are told apart at a coarser resolution.
    assert not labels[:400, 640:].any()
    assert (labels[:190, :560] == 1).all()
    with pytest.raises(ValueError, match="normal_within must be one of slide, tissue, not 'region'"):
        datalist_from_bach(challenge, tmp_path / "d.json", normal_within="region")


def test_a01_may_be_trained_on_as_in_the_released_code(challenge, tmp_path):
    found = datalist_from_bach(challenge, tmp_path / "other" / "datalist.json", a01="training")
    assert found.sections["training"][0] == "A01"
    first = load_datalist(found.path, "training")[0]["image"]
    assert Path(first).resolve() == (challenge / "WSI" / "A01.svs").resolve()
    with pytest.raises(ValueError, match="a01 must be one of training, validation, testing, not 'train'"):
        datalist_from_bach(challenge, tmp_path / "datalist.json", a01="train")


def test_annotations_of_asap_are_read_too(challenge, tmp_path):
    write_asap_xml(challenge / "WSI" / "A05.xml", [AnnotatedRegion(3, INVASIVE)], BACH_CLASSES)
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    labels = labels_of(found.path, "testing")
    assert (labels[200:400, 100:300] == 3).all()
    assert (labels[:200, :100] == 1).all()


def test_the_class_may_stand_in_a_region_s_attributes(challenge, tmp_path):
    """Of the challenge's files some have it there, and nothing or a number in the text."""
    path = challenge / "WSI" / "A05.xml"
    tree = ElementTree.parse(path)
    said = (("", "Carcinoma In Situ"), ("7", "benign (UDH)"))
    for region, (text, value) in zip(tree.iter("Region"), said, strict=True):
        region.set("Text", text)
        attributes = ElementTree.Element("Attributes")
        ElementTree.SubElement(attributes, "Attribute", {"Id": "0", "Name": "", "Value": value})
        region.insert(0, attributes)
    tree.write(path)
    labels = labels_of(datalist_from_bach(challenge, tmp_path / "datalist.json").path, "testing")
    assert (labels[500:560, 500:600] == 2).all()
    assert (labels[200:400, 100:300] == 3).all()


def test_a_region_s_class_is_not_lost_to_another_one_s_number(challenge, tmp_path):
    """Both are called 1; only one also says what it is."""
    path = challenge / "WSI" / "A05.xml"
    tree = ElementTree.parse(path)
    invasive, benign = tree.iter("Region")
    for region in (invasive, benign):
        region.set("Text", "1")
    attributes = ElementTree.Element("Attributes")
    ElementTree.SubElement(attributes, "Attribute", {"Name": "", "Value": "Benign"})
    benign.insert(0, attributes)
    tree.write(path)
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    labels = labels_of(found.path, "testing")
    assert (labels[500:560, 500:600] == 2).all()
    assert not labels[201:399, 101:299].any()
    assert len(found.missing) == 1


def test_groups_of_asap_lie_in_others(challenge, tmp_path):
    path = challenge / "WSI" / "A05.xml"
    write_asap_xml(path, [AnnotatedRegion(3, INVASIVE)], BACH_CLASSES)
    tree = ElementTree.parse(path)
    next(tree.iter("Annotation")).set("PartOfGroup", "lobule 7")
    groups = tree.getroot().find("AnnotationGroups")
    assert groups is not None
    ElementTree.SubElement(groups, "Group", {"Name": "lobule 7", "PartOfGroup": "Benign tissue"})
    ElementTree.SubElement(groups, "Group", {"Name": "Benign tissue", "PartOfGroup": "None"})
    tree.write(path)
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    assert found.missing == []
    assert (labels_of(found.path, "testing")[201:399, 101:299] == 2).all()


@pytest.mark.parametrize(
    ("said", "label"),
    [("DCIS: in situ carcinoma, non-invasive", 3), ("Normal tissue", 1), ("invasive and in situ", 0), ("INVASIVE", 4)],
)
def test_what_names_say(challenge, tmp_path, said, label):
    path = challenge / "WSI" / "A05.xml"
    path.write_text(path.read_text().replace("Carcinoma invasive", said))
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    assert (labels_of(found.path, "testing")[201:399, 101:299] == label).all()
    assert bool(found.missing) == (label == 0)


def test_a_region_of_no_class_is_named_and_not_taken_for_normal(challenge, tmp_path):
    path = challenge / "WSI" / "A05.xml"
    path.write_text(path.read_text().replace("Carcinoma invasive", "artefact"))
    found = datalist_from_bach(challenge, tmp_path / "datalist.json")
    assert found.missing == ["a class for 'artefact' in A05.xml, whose regions are left unlabelled"]
    labels = labels_of(found.path, "testing")
    assert not labels[201:399, 101:299].any()
    assert (labels[:190, :100] == 1).all()


def test_what_is_not_there_is_said(challenge, tmp_path):
    (challenge / "WSI" / "A10.svs").unlink()
    assert datalist_from_bach(challenge, tmp_path / "d.json").missing == ["A10.svs, for validation"]
    write_slide(challenge / "copy" / "A02.svs")
    with pytest.raises(ValueError, match=r"A02 is there twice: .*WSI/A02.svs and .*copy/A02.svs"):
        datalist_from_bach(challenge, tmp_path / "d.json")
    with pytest.raises(ValueError, match=r"no annotated slide of BACH in it \(A01.svs with A01.xml"):
        datalist_from_bach(tmp_path / "copy", tmp_path / "d.json")
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        datalist_from_bach(tmp_path / "nowhere", tmp_path / "d.json")


def test_regions_with_holes_come_back_from_imagescope_s_format(tmp_path):
    write_slide(tmp_path / "s.tif")
    ring = BENIGN.buffer(90, join_style="mitre").difference(BENIGN)
    write_imagescope_xml(tmp_path / "s.xml", [AnnotatedRegion(2, ring), AnnotatedRegion(4, BENIGN)], BACH_CLASSES, 2.0)
    labels = read_annotations(tmp_path / "s.xml", BACH_CLASSES).label_map(
        open_slide(tmp_path / "s.tif"), (400, 400), 2.0, SIDE
    )
    expected = np.zeros((SIDE, SIDE), dtype=np.uint8)
    expected[410:650, 410:790], expected[500:560, 500:700] = 2, 4
    assert np.array_equal(labels, expected)


def test_81_slices_of_a_tile_are_trained_on_and_none_across_its_border(tmp_path, scheme):
    """Tiles of ten half slices: nine places down and across."""
    pixels = np.full((1000, 1000, 3), 120, dtype=np.uint8)
    write_pyramid(tmp_path / "s.tif", [pixels], (0.5, 0.5), lossless=True, tile=64)
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    reader = PatchReader([FieldOfView(1.0, 50)])
    item = {
        "image": str(tmp_path / "s.tif"),
        "label": str(tmp_path / "s.geojson"),
        "unannotated": {"class": "stroma", "within": "slide"},
    }
    tile = FieldOfView(5.0, 50)
    index = build_patch_index([item], scheme, TargetGrid(reader, FieldOfView(1.0, 50), stride=25, within=tile))
    # A slide of 2 x 2 tiles of 500 level-0 pixels.
    tiles = index.rows.groupby([index.rows["row"] // 500, index.rows["column"] // 500]).size()
    assert tiles.tolist() == [81] * 4
    places = sorted(set(index.rows["row"]))
    assert places == [50.0 + 50 * number for number in range(19) if number != 9]
    with_all = build_patch_index([item], scheme, TargetGrid(reader, FieldOfView(1.0, 50), stride=25))
    assert len(with_all.rows) == 20 * 20


@pytest.mark.parametrize("cell", [320.0, 1200.0, 5000.0, 5000 * 1.0004, 5000 / 3])
def test_a_slice_that_ends_with_its_tile_lies_in_it(cell):
    """However large a tile is, and whatever rounding does to its corners."""
    starts = np.arange(0, 40) * (cell / 10)
    kept = _in_one_tile(starts, cell / 5, cell)
    assert kept.tolist() == [number % 10 != 9 for number in range(40)]
    assert _in_one_tile(np.arange(0, 20) * (cell / 5), cell / 5, cell).all()


def test_patches_are_chosen_by_what_is_in_them(caplog):
    rows = pd.DataFrame({"benign": [0, 5, 0, 1, 0, 0], "in situ": [0, 0, 2, 1, 0, 0], "normal": [9, 4, 7, 7, 9, 9]})
    index = PatchIndex(rows.assign(place=range(6)), ("benign", "in situ", "normal"))
    with caplog.at_level(logging.INFO):
        found = PatchSubset(["benign", "in situ"], containing=2, others=9, seed=1).apply(index)
    assert "chosen: 2 of 3 patches with benign or in situ, 3 of 3 without" in caplog.text
    places = found.rows["place"].tolist()
    assert places == sorted(places)
    assert set(places) >= {0, 4, 5}
    assert len(set(places) & {1, 2, 3}) == 2
    assert found.rows.index.tolist() == list(range(5))
    chosen = {
        tuple(PatchSubset(["benign", "in situ"], 2, 0, seed).apply(index).rows["place"].tolist()) for seed in range(9)
    }
    assert len(chosen) > 1
    with pytest.raises(ValueError, match="no class tumour to choose patches by"):
        PatchSubset(["tumour"]).apply(index)

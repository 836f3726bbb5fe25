"""CAMELYON16's own folders: what becomes of each slide, and which pixels are tumour."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.annotations import AnnotationError, read_annotations
from common.data import SlideStore, datalist_from_camelyon16, load_datalist
from common.phantom import LYMPH_NODE
from common.slides import open_slide

TRAINING, TESTING = "training", "testing"


def pretend(root: Path, *paths: str) -> Path:
    """Empty files: a datalist opens none of them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def slides(kind: str, numbers: range | tuple[int, ...]) -> list[str]:
    return [f"training/{kind}/{kind}_{number:03d}.tif" for number in numbers]


def annotations(numbers: range | tuple[int, ...]) -> list[str]:
    return [f"training/lesion_annotations/tumor_{number:03d}.xml" for number in numbers]


@pytest.mark.all
def test_annotations_with_cut_outs_are_the_tumour_that_was_painted(camelyon16):
    """A quarter of the lesions is outlined 2.25 times too large, and cut out again earlier or later in the file."""
    datalist = datalist_from_camelyon16(camelyon16, camelyon16 / "datalist.json", validation=0.5).path
    store = SlideStore(LYMPH_NODE.scheme)
    items = [item for section in ("training", "validation") for item in load_datalist(datalist, section)]
    tumour = [item for item in items if "label" in item]
    assert len(tumour) == 2
    for item in tumour:
        slide = store.slide(item)
        whole = ((slide.shape[0] / 2, slide.shape[1] / 2), slide.mpp, slide.shape)
        painted = camelyon16 / "labels" / f"{Path(item['image']).stem}_labels.tif"
        truth = read_annotations(painted, LYMPH_NODE.scheme).label_map(slide, *whole)
        found = store.labels(item).label_map(slide, *whole)
        intersection, union = ((truth == 2) & (found == 2)).sum(), ((truth == 2) | (found == 2)).sum()
        assert intersection / union > 0.97
        uncut = store.labels({**item, "cut_out": []}).label_map(slide, *whole)
        assert intersection / ((truth == 2) | (uncut == 2)).sum() < 0.93
        assert (found[truth == 1] == 1).mean() > 0.6, "tissue is normal; glass is not labelled"


def test_slides_without_annotation_are_normal_tissue_throughout(camelyon16):
    datalist = datalist_from_camelyon16(camelyon16, camelyon16 / "datalist.json", validation=0.5).path
    item = next(item for item in load_datalist(datalist, TESTING) if "label" not in item)
    with open_slide(item["image"]) as slide:
        whole = ((slide.shape[0] / 2, slide.shape[1] / 2), slide.mpp, slide.shape)
        labels = SlideStore(LYMPH_NODE.scheme).labels(item).label_map(slide, *whole)
    assert set(np.unique(labels)) == {0, 1}
    assert labels[:20].max() == 0, "no glass"


def test_slides_that_are_not_annotated_exhaustively_are_left_out(tmp_path):
    root = pretend(tmp_path, *slides("normal", (1, 2, 86)), *slides("tumor", (1, 2, 10, 110)))
    pretend(root, *annotations((1, 2, 10, 110)), "testing/lesion_annotations/test_114.xml")
    pretend(root, *(f"testing/images/test_{number:03d}.tif" for number in (1, 49, 114)))
    (root / "testing" / "reference.csv").write_text("test_001,Normal\ntest_049,Tumor\ntest_114,Tumor\n")
    found = datalist_from_camelyon16(root, root / "datalist.json", validation=0.5)
    assert set(found.left_out) == {"normal_086", "tumor_010", "tumor_110", "test_049", "test_114"}
    assert "it is tumor_111" in found.left_out["normal_086"]
    assert found.counts == {
        "training": {"normal": 1, "tumour": 1},
        "validation": {"normal": 1, "tumour": 1},
        "testing": {"normal": 1, "tumour": 0},
    }


def test_twenty_training_slides_and_one_for_testing_are_known_to_be_incomplete():
    from common.data.camelyon import NOT_EXHAUSTIVE

    assert sum(name.startswith("tumor_") for name in NOT_EXHAUSTIVE) == 20
    assert "test_114" in NOT_EXHAUSTIVE


def test_a_fifth_of_each_kind_of_training_slide_is_for_validation_whatever_the_seed(tmp_path):
    root = pretend(
        tmp_path, *slides("normal", range(1, 21)), *slides("tumor", range(1, 10)), *annotations(range(1, 10))
    )
    pretend(root, *slides("tumor", (11,)), *annotations((11,)))
    lists = [datalist_from_camelyon16(root, root / f"{n}.json", seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert all(found.counts["validation"] == {"normal": 4, "tumour": 2} for found in lists)
    first, again, other = (json.loads(found.path.read_text()) for found in lists)
    assert first == again != other
    images = [entry["image"] for section in first.values() for entry in section]
    assert len(images) == len(set(images)) == 30


def test_what_is_missing_is_said_and_never_taken_for_normal(tmp_path):
    root = pretend(tmp_path, *slides("normal", (1, 2)), *slides("tumor", (1, 2, 3)), *annotations((1, 2, 4)))
    pretend(root, "testing/images/test_001.tif", "testing/images/test_002.tif", "testing/lesion_annotations.zip")
    found = datalist_from_camelyon16(root, root / "datalist.json", validation=0.5)
    assert found.left_out["tumor_003"] == "no tumor_003.xml"
    assert "no reference.csv that says whether it has tumour" in found.left_out["test_001"]
    said = " | ".join(found.missing)
    assert "no slide for tumor_004.xml" in said
    assert "unpack lesion_annotations.zip" in said
    assert "reference.csv" in said
    (root / "testing" / "reference.csv").write_text("test_001.tif,Tumor,IDC,Macro\ntest_002.tif,Normal,None,None\n")
    found = datalist_from_camelyon16(root, root / "datalist.json", validation=0.5)
    assert "though reference.csv says that it has tumour" in found.left_out["test_001"]
    assert found.counts["testing"] == {"normal": 1, "tumour": 0}
    pretend(root, "testing/lesion_annotations/test_002.xml")
    found = datalist_from_camelyon16(root, root / "datalist.json", validation=0.5)
    assert "reference.csv says that it is normal" in found.left_out["test_002"]


@pytest.mark.parametrize(
    ("files", "reference", "says"),
    [
        ([], "", "no slide of CAMELYON16 in it"),
        (["a/normal_001.tif", "b/normal_001.tif"], "", "normal_001 is there twice"),
        (["a/test_001.tif"], "test_001,Maybe", 'neither "Tumor" nor "Normal"'),
        (["a/test_001.tif"], "image,label", "no row that begins with test_001"),
    ],
)
def test_what_cannot_be_right_is_an_error(tmp_path, files, reference, says):
    pretend(tmp_path, *files)
    if reference:
        (tmp_path / "reference.csv").write_text(reference)
    with pytest.raises(ValueError, match=says):
        datalist_from_camelyon16(tmp_path, tmp_path / "datalist.json")


def test_cut_out_groups_of_another_format_are_refused(camelyon16, tmp_path):
    shutil.copy(camelyon16 / "labels" / "test_001_look_alikes.geojson", tmp_path / "a.geojson")
    with pytest.raises(AnnotationError, match="groups of ASAP's XML, which it is not"):
        read_annotations(tmp_path / "a.geojson", LYMPH_NODE.scheme, cut_out=["_2"])


def test_a_group_that_is_not_the_data_sets_is_an_error_and_not_normal(camelyon16, tmp_path):
    """Every group is declared as part of "None", which stands for normal tissue there."""
    datalist = datalist_from_camelyon16(camelyon16, camelyon16 / "datalist.json", validation=0.5).path
    item = next(item for item in load_datalist(datalist, TESTING) if "label" in item)
    text = Path(item["label"]).read_text().replace('"_1"', '"metastases"')
    assert 'Name="metastases" PartOfGroup="None"' in text
    (tmp_path / "foreign.xml").write_text(text)
    with pytest.raises(AnnotationError, match="metastases"):
        SlideStore(LYMPH_NODE.scheme).labels({**item, "label": str(tmp_path / "foreign.xml")})

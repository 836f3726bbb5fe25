"""Regions that count and what bare pixels are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from common.data import SlideStore, TargetGrid, build_patch_index, load_datalist
from common.outputs.pyramid import write_label_pyramid
from common.slides import FieldOfView, PatchReader

CARCINOMA, STROMA = 1, 4
WHOLE = ((50, 60), 0.5, (120, 140))


@pytest.fixture
def item(tmp_path):
    """Glass with tissue in the left half; a carcinoma annotated across its border."""
    pixels = np.full((100, 120, 3), 240, dtype=np.uint8)
    pixels[:, :64] = (180, 90, 150)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    square = [[48, 32], [80, 32], [80, 64], [48, 64], [48, 32]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"classification": {"name": "carcinoma"}},
    }
    (tmp_path / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return {"image": str(tmp_path / "slide.png"), "label": str(tmp_path / "slide.geojson"), "mpp": 0.5}


def labels(item, scheme, **more):
    store = SlideStore(scheme)
    entry = {**item, **more}
    return store.labels(entry).label_map(store.slide(entry), *WHOLE)


def expected(tissue=False, slide=False):
    result = np.zeros((120, 140), dtype=np.uint8)
    inner = result[10:110, 10:130]
    if slide:
        inner[:] = STROMA
    if tissue:
        inner[:, :64] = STROMA
    inner[32:64, 48:80] = CARCINOMA
    return result


def test_bare_pixels_of_the_slide_or_its_tissue_get_a_class(item, scheme):
    assert np.array_equal(labels(item, scheme), expected())
    assert np.array_equal(labels(item, scheme, unannotated="ignore"), expected())
    bare = {"class": "stroma", "within": "slide"}
    assert np.array_equal(labels(item, scheme, unannotated=bare), expected(slide=True))
    found = labels(item, scheme, unannotated={"class": "stroma", "within": "tissue"})
    # The mask has pixels of 16 level-0 pixels.
    differs = found != expected(tissue=True)
    assert not differs[:, :58].any()
    assert not differs[:, 92:].any()


def test_only_regions_count(item, scheme):
    regions = [[0, 0, 48, 60], [60, 70, 20, 20]]
    inside = np.zeros((120, 140), dtype=bool)
    inside[10:58, 10:70] = inside[70:90, 80:100] = True
    assert np.array_equal(labels(item, scheme, regions=regions), np.where(inside, expected(), 0))
    bare = {"class": "stroma", "within": "region"}
    found = labels(item, scheme, regions=regions, unannotated=bare)
    assert np.array_equal(found, np.where(inside, expected(slide=True), 0))


def test_the_index_counts_what_counts(item, scheme, tmp_path):
    """A slide without annotation, all of it one class, and not the same table for other regions."""
    bare = {"class": "stroma", "within": "slide"}
    target = FieldOfView(0.5, 32)
    grid = TargetGrid(PatchReader([target]), target, min_labelled=0)
    entry = {"image": item["image"], "mpp": 0.5, "unannotated": bare}
    for regions, pixels in ((None, 100 * 120), ([[0, 0, 20, 30]], 600), ([[0, 0, 20, 10]], 200)):
        data = [{**entry, "regions": regions}]
        index = build_patch_index(data, scheme, grid, tmp_path / "cache")
        assert index.pixels_per_class() == [0, 0, 0, pixels, 0, 0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"unannotated": "normal"}, '"unannotated" must be'),
        ({"unannotated": {"class": "normal", "within": "slide"}}, "no class 'normal'"),
        ({"unannotated": {"class": "stroma", "within": "region"}}, 'no "regions"'),
        ({"regions": [[0, 0, 10]]}, r"\[top, left, height, width\]"),
        ({"regions": [[0, 0, -10, 5]]}, r"\[top, left, height, width\]"),
    ],
)
def test_what_is_meant_must_be_said_rightly(item, scheme, more, says):
    with pytest.raises(ValueError, match=f"slide.png: .*{says}"):
        labels(item, scheme, **more)


def test_a_label_may_be_left_out_only_with_a_class_for_bare_pixels(tmp_path):
    bare = {"class": "stroma", "within": "tissue"}
    (tmp_path / "d.json").write_text(json.dumps({"training": [{"image": "a.svs", "unannotated": bare}]}))
    assert load_datalist(tmp_path / "d.json", "training")[0]["image"] == str(tmp_path / "a.svs")
    (tmp_path / "d.json").write_text(json.dumps({"training": [{"image": "a.svs", "unannotated": "ignore"}]}))
    with pytest.raises(ValueError, match='no "label"'):
        load_datalist(tmp_path / "d.json", "training")


@pytest.mark.parametrize("kind", ["outlines", "label image"])
def test_what_is_left_out_on_purpose_is_not_bare(item, scheme, kind, tmp_path):
    bare = {"class": "stroma", "within": "slide"}
    if kind == "label image":
        drawn = np.zeros((100, 120), dtype=np.uint8)
        drawn[32:64, 48:80] = 255
        Image.fromarray(drawn).save(tmp_path / "labels.png")
        item = {**item, "label": str(tmp_path / "labels.png"), "label_values": {"0": "stroma", "255": None}}
    else:
        item = {**item, "class_map": {"carcinoma": None}}
    found = labels(item, scheme, unannotated=bare)
    whole = np.zeros((120, 140), dtype=np.uint8)
    whole[10:110, 10:130] = STROMA
    whole[10:110, 10:130][32:64, 48:80] = 0
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("slide_mpp", [0.5, 0.25])
def test_annotations_win_over_predictions_and_what_they_leave_out_stays_bare(item, scheme, slide_mpp, tmp_path):
    """Predicted: carcinoma everywhere but in the first ten rows, which no class reached the threshold in."""
    rows = np.full((100, 120), CARCINOMA, dtype=np.uint8)
    rows[:10] = 0
    bands = [rows if slide_mpp == 0.5 else rows[::2, ::2]]
    write_label_pyramid(tmp_path / "prediction.tif", bands, bands[0].shape, 0.5, scheme)
    item |= {"mpp": slide_mpp, "pseudo_label": str(tmp_path / "prediction.tif"), "class_map": {"carcinoma": "stroma"}}
    store = SlideStore(scheme)

    def shown(**more) -> np.ndarray:
        entry = {**item, **more}
        return store.labels(entry).label_map(store.slide(entry), (50, 60), slide_mpp, (100, 120))

    wanted = rows.copy()
    wanted[32:64, 48:80] = STROMA
    assert np.array_equal(shown(), wanted)
    left_out = rows.copy()
    left_out[32:64, 48:80] = 0
    assert np.array_equal(shown(class_map={"carcinoma": None}), left_out)
    region = rows.copy()
    region[0:20, 0:30] = STROMA
    bare = {"class": "stroma", "within": "region"}
    assert np.array_equal(shown(label=None), rows)
    # An outline beyond the region does not count, but nothing is predicted in its place.
    drawn = region.copy()
    drawn[32:64, 48:80] = 0
    assert np.array_equal(shown(regions=[[0, 0, 20, 30]], unannotated=bare), drawn)
    target = FieldOfView(slide_mpp, 20)
    index = build_patch_index([{**item, "label": None}], scheme, TargetGrid(PatchReader([target]), target))
    assert index.pixels_per_class()[0] == 90 * 120


def test_other_predictions_make_another_index(item, scheme, tmp_path):
    found = []
    view = FieldOfView(0.5, 20)
    grid = TargetGrid(PatchReader([view]), view)
    for label in (CARCINOMA, STROMA):
        rows = np.full((100, 120), label, dtype=np.uint8)
        write_label_pyramid(tmp_path / "prediction.tif", [rows], rows.shape, 0.5, scheme)
        entry = {**item, "label": None, "pseudo_label": str(tmp_path / "prediction.tif")}
        found.append(build_patch_index([entry], scheme, grid, tmp_path / "cache").pixels_per_class())
    assert found[0][CARCINOMA - 1] == found[1][STROMA - 1] == 100 * 120


def test_predictions_alone_are_labels_enough(tmp_path):
    entry = {"image": "a.svs", "pseudo_label": "a/prediction.tif"}
    (tmp_path / "d.json").write_text(json.dumps({"training": [entry]}))
    assert load_datalist(tmp_path / "d.json", "training")[0]["pseudo_label"] == str(tmp_path / "a" / "prediction.tif")

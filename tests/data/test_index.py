"""The patches of a datalist."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotatedRegion, write_geojson
from common.data import (
    ClassCycleSampler,
    LoadMultiMagnificationPatchd,
    MultiMagnificationPatchDataset,
    PatchCache,
    PatchIndex,
    SlideDataset,
    TargetGrid,
    balance_by_elastic_deformation,
    build_patch_index,
    load_datalist,
    plot_class_balance,
    slide_items,
)
from common.slides import FieldOfView, PatchReader, SlideError, open_slide

VIEWS = [FieldOfView(0.5, 64), FieldOfView(1.0, 64), FieldOfView(2.0, 64)]
TARGET = VIEWS[0]


@pytest.fixture
def entry(tmp_path, scheme):
    """A slide of 3 x 4 targets of 64 pixels with a strip of 30; carcinoma on exactly one, stroma across two."""
    Image.fromarray(np.full((222, 286, 3), 220, dtype=np.uint8)).save(tmp_path / "slide.png")
    regions = [
        AnnotatedRegion(1, shapely.box(64, 64, 128, 128)),
        AnnotatedRegion(4, shapely.box(180, 10, 200, 20)),
        AnnotatedRegion(2, shapely.box(256, 192, 262, 198)),
        AnnotatedRegion(6, shapely.box(5, 130, 10, 135)),
    ]
    write_geojson(tmp_path / "slide.geojson", regions, scheme)
    return {"image": str(tmp_path / "slide.png"), "label": str(tmp_path / "slide.geojson"), "mpp": 0.5}


def index(entry, scheme, cache_dir=None, **settings):
    return build_patch_index([entry], scheme, TargetGrid(PatchReader(VIEWS), TARGET, **settings), cache_dir)


def test_targets_with_more_than_one_percent_annotated_are_kept(entry, scheme):
    found = index(entry, scheme)
    rows = found.rows[["row", "column", *scheme.names]].to_numpy().tolist()
    # 1 % of 64 x 64 is 40.96 pixels; the 36 of benign epithelium and 25 of adipose tissue are too few.
    assert rows == [
        [32, 160, 0, 0, 0, 12 * 10, 0, 0],
        [32, 224, 0, 0, 0, 8 * 10, 0, 0],
        [96, 96, 4096, 0, 0, 0, 0, 0],
    ]
    assert found.pixels_per_class() == [4096, 0, 0, 200, 0, 0]


def test_with_no_least_share_every_labelled_pixel_counts_once(entry, scheme):
    assert index(entry, scheme, min_labelled=0).pixels_per_class() == [4096, 36, 0, 200, 0, 25]


def test_the_index_is_cached_by_content(entry, scheme, tmp_path, monkeypatch):
    first = index(entry, scheme, cache_dir=tmp_path / "cache")
    monkeypatch.setattr("common.data.index._table", lambda *a: pytest.fail("not taken from the cache"))
    assert index(entry, scheme, cache_dir=tmp_path / "cache").rows.equals(first.rows)
    monkeypatch.undo()
    write_geojson(tmp_path / "slide.geojson", [AnnotatedRegion(1, shapely.box(0, 0, 64, 64))], scheme)
    assert index(entry, scheme, cache_dir=tmp_path / "cache").pixels_per_class() == [4096, 0, 0, 0, 0, 0]


def test_the_settings_in_the_keys_of_cached_tables_are_those_of_earlier_versions():
    """Otherwise every table on users' disks would be made again."""
    plain = {"mpp": 0.5, "size": 64, "anchor": "center"}
    tile = {"mpp": 2.0, "size": 96, "anchor": "tile"}
    grid = TargetGrid(PatchReader([plain, {**plain, "mpp": 1.0}]), FieldOfView(**plain))
    assert grid.settings() == [plain, 64, 0.01, [plain, {**plain, "mpp": 1.0}], 0.03, None]
    other = replace(grid, min_labelled=0, stride=16, within=FieldOfView(**tile))
    assert other.settings() == [plain, 16, 0, [plain, {**plain, "mpp": 1.0}], 0.03, tile]


def test_patches_and_labels_meet_pixel_by_pixel(tmp_path, scheme):
    """The slide's red channel holds the labels, so that the label map equals the patch."""
    labels = np.random.default_rng(0).integers(1, 7, (8, 8)).repeat(40, 0).repeat(40, 1).astype(np.uint8)
    Image.fromarray(np.stack([labels] * 3, axis=-1)).save(tmp_path / "slide.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    entry = {"image": str(tmp_path / "slide.png"), "label": str(tmp_path / "labels.png"), "mpp": 0.4979}
    load = LoadMultiMagnificationPatchd("image", VIEWS, target=TARGET, scheme=scheme)
    for center in ((100, 100), (131.4, 77.8), (0, 320)):
        item = load({**entry, "center": center})
        inside = item["label"][0] > 0
        assert np.array_equal(item["image"][0][inside], item["label"][0][inside])
    assert inside.sum() == 32 * 32


def test_balancing_copies_by_the_highest_class_of_a_patch(entry, scheme):
    before = index(entry, scheme, min_labelled=0)
    rates = {"carcinoma": 2, "benign epithelial": 10, "stroma": 0, "adipose": 1}
    order = ["benign epithelial", "carcinoma", "adipose"]
    after = balance_by_elastic_deformation(before, rates, order)
    assert after.pixels_per_class() == [3 * 4096, 11 * 36, 0, 200, 0, 2 * 25]
    copies = after.rows[after.rows["deformation"] >= 0]
    assert len(copies) == 13
    assert copies["deformation"].nunique() == 13
    plot = entry["image"].replace("slide.png", "balance.png")
    plot_class_balance(before, after, scheme, plot)
    assert Image.open(plot).size[0] > 500
    with pytest.raises(ValueError, match="no classes of the scheme: tumour"):
        balance_by_elastic_deformation(before, {"tumour": 1}, order)


def test_a_patch_of_two_classes_goes_to_the_higher_one(entry, scheme, tmp_path):
    regions = [AnnotatedRegion(1, shapely.box(0, 0, 30, 30)), AnnotatedRegion(2, shapely.box(40, 40, 60, 60))]
    write_geojson(tmp_path / "slide.geojson", regions, scheme)
    before = index(entry, scheme)
    after = balance_by_elastic_deformation(
        before, {"carcinoma": 2, "benign epithelial": 5}, ["benign epithelial", "carcinoma"]
    )
    assert len(after.rows) == 6


def dataset(entry, scheme, **arguments):
    return MultiMagnificationPatchDataset([entry], scheme, VIEWS, TARGET, **arguments)


def test_a_class_without_labelled_pixels_stops_training(entry, scheme):
    with pytest.raises(ValueError, match="no labelled pixel of benign epithelial, background, necrotic, adipose"):
        dataset(entry, scheme)
    data = dataset(entry, scheme, allow_missing=["benign epithelial", "background", "necrotic", "adipose"])
    assert data.class_weights() == pytest.approx([1 - 4096 / 4296, 1, 1, 1 - 200 / 4296, 1, 1])


def test_an_empty_index_says_what_to_do(entry, scheme):
    with pytest.raises(ValueError, match=r"Annotate more, or lower min_labelled"):
        dataset(entry, scheme, min_labelled=1.0)


def test_a_slide_without_mpp_stops_before_training(entry, scheme):
    del entry["mpp"]
    with pytest.raises(SlideError, match='"mpp": 0.5 in a datalist'):
        dataset(entry, scheme)


def test_elsewhere_is_another_patch_of_the_slide(entry, scheme):
    data = dataset(entry, scheme, min_labelled=0, allow_missing=None, elsewhere=True)
    for item in data:
        assert item["elsewhere_center"] != item["center"]


def test_datalists_name_what_is_wrong(tmp_path):
    path = tmp_path / "d.json"
    with pytest.raises(ValueError, match="no such datalist"):
        load_datalist(path, "training")
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_datalist(path, "training")
    path.write_text(json.dumps({"training": [{"image": "a.svs"}], "testing": []}))
    with pytest.raises(ValueError, match='entry 0 of "training" has no "label"'):
        load_datalist(path, "training")
    with pytest.raises(ValueError, match='"testing" is empty'):
        load_datalist(path, "testing")
    with pytest.raises(ValueError, match='no section "validation"; it has training, testing'):
        load_datalist(path, "validation")


def test_slides_from_paths_globs_and_datalists(tmp_path):
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).touch()
    (tmp_path / "d.json").write_text(json.dumps({"testing": [{"image": "a.svs", "stain": "H&E"}]}))
    items = slide_items([tmp_path / "x.tif", tmp_path / "*.svs", tmp_path / "d.json"])
    assert [item["image"].split("/")[-1] for item in items] == ["x.tif", "a.svs", "b.svs", "a.svs"]
    assert items[3]["stain"] == "H&E"
    with pytest.raises(ValueError, match="no slide matches"):
        slide_items(str(tmp_path / "*.ndpi"))


def test_two_slides_of_one_name_need_a_column(tmp_path):
    content = {"testing": [{"image": "1/a.svs", "case": "x"}, {"image": "2/a.svs", "case": "y"}]}
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"two slides are called 'a'.*name_by"):
        SlideDataset(tmp_path / "d.json")
    assert [item["name"] for item in SlideDataset(tmp_path / "d.json", name_by="case")] == ["x", "y"]


def test_classes_take_turns_and_every_patch_has_its_own(entry, scheme):
    data = dataset(entry, scheme, min_labelled=0, allow_missing=None)
    sampler = ClassCycleSampler(data, ["stroma", "carcinoma", "stroma"], num_samples=12)
    drawn = [data.index.rows.iloc[position] for position in sampler]
    assert [int(row["carcinoma"] > 0) for row in drawn] == [0, 1, 0] * 4
    stroma = [row["column"] for row in drawn if row["stroma"] > 0]
    assert sorted(set(stroma)) == [160, 224]
    assert all({stroma[i], stroma[i + 1]} == {160, 224} for i in range(0, 8, 2))
    with pytest.raises(ValueError, match="no patch of necrotic"):
        ClassCycleSampler(data, ["necrotic"], num_samples=1)
    passed_over = list(ClassCycleSampler(data, ["stroma", "necrotic", "carcinoma"], num_samples=4))
    assert [data.index.rows.iloc[position]["carcinoma"] > 0 for position in passed_over] == [False, True] * 2
    data.allow_missing = ["carcinoma"]
    with pytest.raises(ValueError, match="no patch of necrotic"):
        ClassCycleSampler(data, ["stroma", "necrotic"], num_samples=1)
    with pytest.raises(ValueError, match="no classes of the scheme: tumour"):
        ClassCycleSampler(data, ["tumour"], num_samples=1)


def test_how_much_of_a_patch_makes_it_one_of_a_class_can_be_said():
    rows = pd.DataFrame({"carcinoma": [1, 50, 0], "stroma": [99, 50, 100]})
    data = SimpleNamespace(index=PatchIndex(rows, ("carcinoma", "stroma")), allows_missing=lambda name: False)
    assert set(ClassCycleSampler(data, ["carcinoma"], num_samples=20)) == {1}
    assert set(ClassCycleSampler(data, ["carcinoma"], num_samples=20, share=0.005)) == {0, 1}
    with pytest.raises(ValueError, match="no patch of carcinoma with 60% of its labelled pixels.*lower share"):
        ClassCycleSampler(data, ["carcinoma"], num_samples=20, share=0.6)


def test_elsewhere_of_a_slide_in_one_tile_is_not_that_tile(entry, scheme):
    """Else nothing would be lost by construction."""
    slide = open_slide(entry["image"], mpp=0.5)
    views = [FieldOfView(0.5, 64), FieldOfView(16.0, 64, anchor="tile")]
    data = MultiMagnificationPatchDataset(
        [entry], scheme, views, views[0], min_labelled=0, allow_missing=None, elsewhere=True
    )
    reader = PatchReader(views)
    assert len(data) > 1
    for position in range(len(data)):
        item = data[position]
        assert reader.tile(slide, 1, item["center"]) == (0, 0)
        assert reader.tile(slide, 1, item["elsewhere_center"]) != (0, 0)


def test_targets_without_tissue_are_left_out_by_otsus_threshold(tmp_path, scheme):
    """Tissue in the left half, all of it and of the glass annotated."""
    pixels = np.full((256, 512, 3), 240, dtype=np.uint8)
    pixels[:, :256] = (150, 70, 130)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    write_geojson(tmp_path / "a.geojson", [AnnotatedRegion(4, shapely.box(0, 0, 512, 256))], scheme)
    entry = {"image": str(tmp_path / "slide.png"), "label": str(tmp_path / "a.geojson"), "mpp": 2.0}
    view = FieldOfView(2.0, 64)
    sizes = {
        only: MultiMagnificationPatchDataset([entry], scheme, [view], view, allow_missing=None, tissue_only=only)
        for only in (False, True)
    }
    assert len(sizes[False]) == 4 * 8
    columns = sizes[True].index.rows["column"]
    # The mask has pixels of 8 µm and is closed over 16 µm: a column next to the edge may count.
    assert 4 * 4 <= len(sizes[True]) <= 4 * 5
    assert columns.max() <= 320


def test_columns_that_say_what_a_slide_is_change_neither_index_nor_packed_patches(entry, scheme, tmp_path, monkeypatch):
    more = {**entry, "synthetic": True, "stain": "H&E"}
    first = index(entry, scheme, cache_dir=tmp_path / "cache")
    monkeypatch.setattr("common.data.index._table", lambda *a: pytest.fail("not taken from the cache"))
    assert index(more, scheme, cache_dir=tmp_path / "cache").rows.equals(first.rows)
    packed = PatchCache(tmp_path / "packed", [], {})
    assert packed._key(more, np.zeros((1, 3))) == packed._key(entry, np.zeros((1, 3)))

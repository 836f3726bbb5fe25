"""Two images of one file are two slides: whatever reads one of them reads the chosen one, and nothing is shared."""

from __future__ import annotations

import ast
import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from common.bundle.parser import bundle_parser
from common.cohort.manifest import read_manifest
from common.cohort.worker import entry_settings
from common.data import (
    LoadMultiMagnificationPatchd,
    MultiMagnificationPatchDataset,
    NormalizeStainsd,
    PatchCache,
    SlideDataset,
    SlideStore,
    TargetGrid,
    build_patch_index,
    load_datalist,
    merge_by_slide,
    output_names,
    slide_items,
)
from common.data.folders import datalist_from_folders
from common.data.inspection import PatchSettings, _between_sections, inspect_datalist
from common.data.tissue_patches import tissue_patches
from common.diagnosis.regions import Division, region_histograms
from common.inference import WholeSlideInferer
from common.reports.html.slides import slide_view
from common.settings import SettingsError
from common.slides import FieldOfView, PatchReader, SlideError, open_entry, open_slide, pixel_fingerprint, slide_keys
from common.style import SlideRestyler, StyleGenerator
from common.superpixels import SuperpixelSVM
from common.training.checkpoint_metadata import _by_slide
from common.training.iterative import IterativeTraining
from common.training.resume import _chosen_series
from tests.conftest import DA_REFINENET, DMMN, ENCDEC, MRN, MULTILEVEL, REPOSITORY

SIDE = 256
# What the middle of each image shows: eosin and haematoxylin, roughly.
COLOURS = np.array([[190, 60, 110], [70, 50, 150]], dtype=np.uint8)
VIEW = FieldOfView(0.5, 64)
EVERY = [0, 1]


@pytest.fixture
def path(tmp_path):
    """A file of two scans of one size, each with a pyramid: glass with a square of tissue."""
    path = tmp_path / "two.tif"
    stored = {"photometric": "rgb", "tile": (64, 64), "compression": "adobe_deflate"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, colour in zip(("left", "right"), COLOURS, strict=True):
            image = np.full((SIDE, SIDE, 3), 245, np.uint8)
            image[64:192, 64:192] = colour
            image[64:192:4, 64:192] = colour - (0, 30, 10)
            described = {"Name": name, "axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            writer.write(image, subifds=1, metadata=described, **stored)
            writer.write(image[::2, ::2], subfiletype=1, metadata=None, **stored)
    return path


def entry(path, series, **more):
    return {"image": str(path), "series": series, **more}


def shows(pixels, series):
    """Return whether pixels from the middle are of an image: nearest to its colour."""
    middle = np.asarray(pixels, dtype=float).reshape(-1, 3).mean(axis=0)
    return int(np.abs(COLOURS - middle).sum(axis=1).argmin()) == series


def middle(slide):
    return slide.read((SIDE / 2, SIDE / 2), 0.5, 32)


def test_an_ambiguous_file_is_refused_with_the_ways_to_choose(path):
    with pytest.raises(SlideError, match=r'--series 1 for one slide, "series": 1 in a datalist, series=1 in Python'):
        open_entry({"image": path})
    with pytest.raises(SlideError, match=r"no image 2: .*--series 1"):
        open_entry(entry(path, 2))
    for value in ("right", -1, 1.5, True):
        with pytest.raises(SlideError, match=f"series {value!r} is not the number of an image"):
            open_slide(path, series=value)


@pytest.mark.parametrize("series", EVERY)
def test_entry_store_and_patches_show_the_chosen_image(path, series):
    one, store = entry(path, series), SlideStore()
    assert shows(middle(open_entry(one)), series)
    # The other one is opened first, and must not be taken for it.
    assert shows(middle(store.slide(entry(path, 1 - series))), 1 - series)
    assert shows(middle(store.slide(one)), series)
    load = LoadMultiMagnificationPatchd("image", [VIEW], None)
    for number in (1 - series, series):
        made = load({**entry(path, number), "center": (SIDE / 2, SIDE / 2)})
        assert shows(made["image"].transpose(1, 2, 0), number)
        assert made["read_from"] == entry(path, number)
    patches = tissue_patches([one], [VIEW])
    assert len(patches) > 0
    assert all(shows(patch["image"].transpose(1, 2, 0), series) for patch in patches)


def test_stains_are_fitted_to_each_image(path):
    load, normalize = LoadMultiMagnificationPatchd("image", [VIEW], None), NormalizeStainsd("image")
    at = {"center": (SIDE / 2, SIDE / 2)}
    alone = [NormalizeStainsd("image")(load({**entry(path, series), **at}))["image"] for series in EVERY]
    together = [normalize(load({**entry(path, series), **at}))["image"] for series in EVERY]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_no_cache_is_shared(path, tmp_path, scheme):
    bare = {"unannotated": {"class": "stroma", "within": "tissue"}}
    entries = [entry(path, series, **bare) for series in EVERY]
    assert pixel_fingerprint(entries[0]) != pixel_fingerprint(entries[1])
    assert pixel_fingerprint({"image": path}) == [*pixel_fingerprint(entries[0])[:2], None, None]
    for one in entries:
        build_patch_index([one], scheme, TargetGrid(PatchReader([VIEW]), VIEW), tmp_path / "index")
    assert len(list((tmp_path / "index").glob("*.csv"))) == 2
    load = LoadMultiMagnificationPatchd("image", [VIEW], target=VIEW, scheme=scheme)
    packed = PatchCache(tmp_path / "packed", [load], {})
    data = MultiMagnificationPatchDataset(entries, scheme, [VIEW], VIEW, load, patch_cache=packed, allow_missing=None)
    assert len(list((tmp_path / "packed").glob("*.zarr"))) == 2
    for position in range(len(data)):
        image = packed.read(int(data.index.rows["slide"][position]), position)["image"]
        assert shows(image.transpose(1, 2, 0), int(data.index.rows["slide"][position]))
    assert _chosen_series(entries) == {"series": [0, 1]} != _chosen_series(entries[::-1])
    assert _chosen_series([{"image": path}]) == {}


def test_superpixels_are_counted_and_learnt_of_each_image(path, tmp_path, scheme):
    model = SuperpixelSVM(scheme)
    assert len({model._learnt_from([entry(path, series)]) for series in EVERY}) == 2
    for series in EVERY:
        region_histograms([entry(path, series)], {"truth": scheme}, Division(mpp=0.5), tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2


class Bluish(torch.nn.Module):
    """Predicts class 1 where blue outweighs red, else class 2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, image):
        blue = (image[:, 2] > image[:, 0]).long()
        return torch.nn.functional.one_hot(2 - blue, 7).movedim(-1, 1).float()


def test_both_images_are_segmented_each_into_a_folder(path, tmp_path, scheme):
    datalist = tmp_path / "list.json"
    datalist.write_text(json.dumps({"testing": [{"image": "two.tif", "series": series} for series in ("0", "1")]}))
    out = tmp_path / "out"
    slides = SlideDataset(str(datalist))
    assert [item["series"] for item in slides.items] == [0, 1]
    inferer = WholeSlideInferer([VIEW], VIEW, scheme, out, outputs=("prediction.tif", "prediction.dcm"))
    network = Bluish()
    for item in slides:
        inferer.segment_slide(item, network)
    uids = set()
    for series in EVERY:
        folder = out / f"two-series{series}"
        assert tifffile.imread(folder / "prediction.tif", key=0)[128, 128] == 2 - series
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["slide"]["series"] == summary["settings"]["series"] == series
        view = slide_view(folder, folder.name, {item["name"]: item for item in slides}, 256)
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(view.tissue.partition(",")[2]))))
        assert shows(picture[120:136, 120:136], series)
        import pydicom

        uids.add(pydicom.dcmread(folder / "prediction.dcm", stop_before_pixels=True).SOPInstanceUID)
    assert len(uids) == 2
    with pytest.raises(SettingsError, match="series is 0 there, 1 now"):
        inferer.segment_slide({**slides[1], "name": "two-series0"}, network)


def test_both_images_are_restyled_each_into_a_file(path, tmp_path):
    made = tmp_path / "styled"
    SlideRestyler(StyleGenerator(8, 2), [entry(path, series) for series in EVERY], made, "plain", 0.5).run()
    for series in EVERY:
        assert shows(middle(open_slide(made / "plain" / f"two-series{series}.tif")), series)


def test_inspection_draws_the_chosen_images_and_does_not_take_them_for_one_slide(path, tmp_path, scheme):
    bare = {"image": "two.tif", "unannotated": {"class": "stroma", "within": "tissue"}}
    sections = {"training": [{**bare, "series": 0}], "validation": [{**bare, "series": 1}]}
    (tmp_path / "list.json").write_text(json.dumps(sections))
    found = inspect_datalist(tmp_path / "list.json", scheme, PatchSettings([VIEW], VIEW, allow_missing=None))
    assert [slide.name for slide in found.slides] == ["two.tif, series 0", "two.tif, series 1"]
    for series, slide in enumerate(found.slides):
        assert shows(slide.thumbnail[120:136, 120:136], series)
        assert slide.targets == 4
    assert not any("is in training and validation" in line for line in found.all_advice)


def test_entries_of_different_images_are_different_slides(path):
    entries = [entry(path, 0, regions=[[0, 0, 9, 9]]), entry(path, 1), entry(path, 0, regions=[[9, 9, 9, 9]])]
    merged = merge_by_slide(entries)
    assert [(one["series"], one.get("regions")) for one in merged] == [(0, [[0, 0, 9, 9], [9, 9, 9, 9]]), (1, None)]
    assert output_names(merged) == ["two-series0", "two-series1"]
    assert output_names([{**one, "id": f"n{one['series']}"} for one in merged], "id") == ["n0", "n1"]


def test_one_series_for_all_slides_leaves_what_entries_say(path, tmp_path):
    (tmp_path / "list.json").write_text(json.dumps({"testing": [{"image": "two.tif", "series": 0, "mpp": None}]}))
    assert SlideDataset(str(path), series="1").items[0]["series"] == 1
    assert SlideDataset(str(tmp_path / "list.json"), mpp=0.25, series=1).items[0] | {"image": 0, "name": 0} == {
        "image": 0, "series": 0, "mpp": 0.25, "name": 0,
    }  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps({"testing": [{"image": "two.tif", "series": "left"}]}))
    with pytest.raises(ValueError, match=r'entry 0 of "testing": series: .*\'left\' is not the number of an image'):
        load_datalist(tmp_path / "list.json", "testing", require_label=False)
    assert slide_items(str(path)) == [{"image": str(path)}]


def test_tables_of_cohorts_and_of_slides_have_a_column_series(path, tmp_path, scheme):
    (tmp_path / "list.csv").write_text("Image;Series;mpp\ntwo.tif;0;0,5\ntwo.tif;1;0,5\n")
    found = read_manifest(tmp_path / "list.csv")
    assert [slide.name for slide in found] == ["two-series0", "two-series1"]
    assert [entry_settings(slide) for slide in found] == [{"mpp": 0.5, "series": series} for series in EVERY]
    assert entry_settings(read_manifest(path, series=1)[0]) == {"series": 1}
    (tmp_path / "list.csv").write_text("image,series\ntwo.tif,x\n")
    with pytest.raises(ValueError, match=r"list\.csv: line 2: series: "):
        read_manifest(tmp_path / "list.csv")
    (tmp_path / "two.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    pd.DataFrame({"slide": ["two"], "series": ["1"]}).to_csv(tmp_path / "table.csv", index=False)
    datalist_from_folders(tmp_path, tmp_path, tmp_path / "made.json", 0, 0, None, tmp_path / "table.csv")
    assert load_datalist(tmp_path / "made.json", "training")[0]["series"] == 1


@pytest.mark.parametrize(
    ("bundle", "config"),
    [(one, "inference.yaml") for one in (DMMN, MRN, DA_REFINENET, MULTILEVEL, ENCDEC)] + [(ENCDEC, "sp_svm.yaml")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_config_that_segments_takes_a_series(bundle, config, path):
    parser = bundle_parser(bundle, [config])
    parser["slides"], parser["series"] = str(path), 1
    assert parser.get_parsed_content("dataset")[0]["series"] == 1


def test_slides_of_entries_are_opened_in_one_place():
    """A place that opens an entry's slide by itself would forget a field; paths of the user's own are no entries."""
    allowed = {"slides/entry.py", "cli/demo.py", "reports/activations.py"}
    callers = set()
    for path in (REPOSITORY / "common").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "open_slide":
                callers.add(path.relative_to(REPOSITORY / "common").as_posix())
    assert callers == allowed


def test_an_entry_without_a_series_may_be_of_any_image_of_its_file(path, tmp_path):
    bare, chosen = {"image": str(path), "label": str(path)}, entry(path, 0, label=str(path))
    assert slide_keys([entry(path, 0), entry(path, 1), entry(path, "1")]) == [
        (str(path), 0), (str(path), 1), (str(path), 1),
    ]  # fmt: skip
    assert len({*slide_keys([bare, entry(path, 0), entry(path, 1)])}) == 1
    assert _by_slide([bare, chosen]) == [chosen]
    with pytest.raises(ValueError, match=r"two.tif: entries with different series \(None, 0\). Give all entries of"):
        merge_by_slide([bare, chosen])
    for train, test in ((bare, chosen), (chosen, bare)):
        advice = _between_sections([("training", train), ("testing", test)])
        assert ["is in testing and training" in line for line in advice] == [True]
        (tmp_path / "list.json").write_text(json.dumps({"training": [train], "testing": [test]}))
        steps = SimpleNamespace(datalist=tmp_path / "list.json", _training_slides=lambda train=train: {"two": train})
        with pytest.raises(ValueError, match="is in testing and also to learn from"):
            IterativeTraining._check_sections(steps)
    assert _between_sections([("training", chosen), ("testing", entry(path, 1))]) == []

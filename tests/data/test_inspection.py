"""Findings of the inspection of a datalist: training stops at its faults and nowhere else."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from PIL import Image

from common.cli.data import inspect
from common.data import ClassCycleSampler, LoadMultiMagnificationPatchd, datalist_from_folders, load_datalist
from common.data.inspection import PatchSettings, inspect_datalist
from common.errors import UnreadableFileError
from common.slides import FieldOfView, PatchReader, open_slide
from tests.conftest import write_pyramid

VIEWS = [{"mpp": 0.5, "size": 32}, {"mpp": 1.0, "size": 32}]
TARGET = {"mpp": 0.5, "size": 32}
SETTINGS = PatchSettings(VIEWS, TARGET, training=True)
LEFT = [[0, 0, 100, 20]]
"""The area with only the first class."""


@pytest.fixture
def folder(tmp_path):
    """Slides of 100 x 120 pixels, each with all six classes in columns of 20 pixels."""
    for name in ("a", "b", "c", "d"):
        Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / f"{name}.png")
        labels = np.repeat(np.arange(1, 7, dtype=np.uint8), 20)[None].repeat(100, axis=0)
        Image.fromarray(labels).save(tmp_path / f"{name}_labels.png")
    return tmp_path


def entry(name, **more):
    return {"image": f"{name}.png", "label": f"{name}_labels.png", "mpp": 0.5, **more}


def drawn(folder, name, **squares):
    """An entry whose annotation has a square of 20 x 20 pixels, its corner as given, of each class."""
    features = []
    for class_name, (x, y) in squares.items():
        ring = [[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20], [x, y]]
        properties = {"classification": {"name": class_name}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    (folder / f"{name}.geojson").write_text(json.dumps(features))
    return entry(name, label=f"{name}.geojson")


def written(folder, training, validation, testing=()):
    sections = {"training": training, "validation": validation, "testing": testing}
    content = {name: list(entries) for name, entries in sections.items() if entries is not None}
    (folder / "d.json").write_text(json.dumps(content))
    return folder / "d.json"


def trained(path, scheme, settings=SETTINGS):
    """Build the dataset of a training, read every patch once, and return their number."""
    loaded = {section: load_datalist(path, section) for section in ("training", "validation")}
    read = LoadMultiMagnificationPatchd("image", VIEWS, target=TARGET, scheme=scheme)
    count = 0
    for section, entries in loaded.items():
        chosen = settings if section == "training" else settings.for_validation()
        for item in chosen.dataset(entries, scheme):
            count += read(item)["image"].shape[0] == 6
    return count


def test_a_good_datalist_has_areas_and_no_finding(folder, scheme):
    path = written(folder, [entry("a"), entry("b")], [entry("c")], [entry("d")])
    found = inspect_datalist(path, scheme, SETTINGS)
    assert found.can_train
    assert found.all_stops == found.all_advice == []
    first = found.slides[0]
    # 20 x 100 pixels of 0.5 µm each.
    assert first.annotated == {name: pytest.approx(20 * 100 * 0.25e-6) for name in scheme.names}
    assert (first.shape, first.mpp, first.targets) == ((100, 120), 0.5, 16)
    assert first.thumbnail.shape[:2] == first.labels.shape == (100, 120)
    assert list(found.table(scheme)["carcinoma mm²"]) == [0.0005] * 4
    assert trained(path, scheme) == 3 * 16


@pytest.mark.parametrize(
    ("training", "validation", "says"),
    [
        (None, [entry("b")], 'no section "training"'),
        ([entry("a")], None, 'no section "validation"'),
        ([entry("a")], [], 'section "validation" is empty. Add slides'),
        ([{"image": "a.png"}], [entry("b")], 'entry 0 of "training" has no "label"'),
        ([entry("a", mpp=None)], [entry("b")], "a.png: the file does not say"),
        ([entry("a", mpp=2.0)], [entry("b")], "more than twice as fine"),
        ([{**entry("a"), "image": "none.svs"}], [entry("b")], "none.svs: no such file"),
        ([entry("a", label="none.geojson")], [entry("b")], "none.geojson: no such file"),
        ([entry("a")], [entry("b", label_values={"1": "stroma"})], r"b_labels.png: .*no class: \[2"),
        ([entry("a", unannotated={"class": "fat", "within": "slide"})], [entry("b")], "no class 'fat'; the scheme has"),
        ([entry("a", regions=[[0, 0, 0, 20]])], [entry("b")], "must be \\[top, left, height, width"),
        ([entry("a", regions=LEFT)], [entry("b")], "^training: no labelled pixel of benign epithelial, backg"),
        ([entry("a", label_values=dict.fromkeys("123456"))], [entry("b")], "^training: no target of 1 slides is anno"),
        ([entry("a")], [entry("b", label_values=dict.fromkeys("123456"))], "^validation: no target of 1 slides is ann"),
    ],
)
def test_what_stops_training_is_said(folder, scheme, training, validation, says):
    path = written(folder, training, validation)
    found = inspect_datalist(path, scheme, SETTINGS)
    assert not found.can_train
    assert any(re.search(says, text) for text in found.all_stops), found.all_stops
    with pytest.raises((ValueError, UnreadableFileError)) as raised:
        trained(path, scheme)
    assert re.search(says.replace("^training: ", "").replace("^validation: ", ""), str(raised.value))


@pytest.mark.parametrize(
    ("training", "validation", "testing", "says"),
    [
        ([entry("a")], [entry("a")], [entry("d")], "slide a.png is in training and validation: .*Keep it in one"),
        ([entry("a", patient="7")], [entry("b", patient="7")], [entry("d")], "patient 7 is in training and validation"),
        ([entry("a")], [entry("b")], None, 'no section "testing".*nothing scores the network'),
        ([entry("a")], [entry("b")], [], 'section "testing" is empty'),
        ([entry("a")], [entry("b")], [{"image": "d.png"}], 'entry 0 of "testing" has no "label"'),
        ([entry("a")], [entry("b")], [entry("none")], "none.png: no such file.*Training does not need this slide"),
        ([entry("a", mpp=0.9)], [entry("b")], [entry("d")], "0.9 µm/px are coarser than the 0.5 that are read"),
        ([entry("a")], [entry("b", regions=LEFT)], [entry("d")], "no labelled pixel of stroma in validation"),
        ([entry("a", regions=[[0, 0, 60, 120]])], [entry("b")], [entry("d")], "of necrotic in training, less than 3"),
        ([entry("a"), entry("c", regions=LEFT)], [entry("b")], [entry("d")], "only one training slide shows stroma"),
        (
            [entry("a"), entry("c", label_values=dict.fromkeys("123456"))],
            [entry("b")],
            [entry("d")],
            "c.png: not used, as no target is annotated on more than 1.00% of its pixels. Annotate more",
        ),
    ],
)
def test_advice_does_not_stop_training(folder, scheme, training, validation, testing, says):
    path = written(folder, training, validation, testing)
    found = inspect_datalist(path, scheme, SETTINGS)
    assert found.can_train, found.all_stops
    assert any(re.search(says, text) for text in found.all_advice), found.all_advice
    assert trained(path, scheme) > 0


@pytest.mark.parametrize(
    ("allowed", "stopped"),
    [((), ["stroma", "necrotic"]), (["stroma"], ["necrotic"]), (["stroma", "necrotic"], []), (None, [])],
)
def test_a_missing_class_stops_training_unless_it_is_allowed(folder, scheme, allowed, stopped):
    """Null allows every class to be missing, a list those that it names."""
    values = {"1": "carcinoma", "2": "benign epithelial", "3": "background", "4": None, "5": None, "6": "adipose"}
    path = written(folder, [entry("a", label_values=values)], [entry("b")], [entry("d")])
    settings = replace(SETTINGS, allow_missing=allowed)
    found = inspect_datalist(path, scheme, settings)
    assert found.can_train == (not stopped)
    stops = " ".join(found.all_stops)
    for name in ("stroma", "necrotic"):
        permitted = any(f"no labelled pixel of {name} in training, which allow_missing" in a for a in found.all_advice)
        assert (name in stops, permitted) == ((True, False) if name in stopped else (False, True))
    if stopped:
        with pytest.raises(ValueError, match=", ".join(stopped)):
            trained(path, scheme, settings)
    else:
        # Of 16 targets, the four between columns 64 and 96 lie in the 40 columns of the two classes.
        assert trained(path, scheme, settings) == 12 + 16


def test_what_the_readable_slides_lack_is_said_along_with_those_that_cannot_be_read(folder, scheme):
    path = written(folder, [entry("a", regions=LEFT), entry("b", mpp=None)], [entry("c")], [entry("d")])
    section, slide = inspect_datalist(path, scheme, SETTINGS).all_stops
    assert section.startswith("training, of the slides that can be read: no labelled pixel of benign epithelial")
    assert "b.png: the file does not say" in slide


def test_a_single_class_stops_training_whatever_is_allowed(folder, scheme):
    path = written(folder, [entry("a", regions=LEFT)], [entry("b")], [entry("d")])
    settings = replace(SETTINGS, allow_missing=None)
    found = inspect_datalist(path, scheme, settings)
    assert found.all_stops[0].startswith("training: carcinoma is the only class annotated")
    with pytest.raises(ValueError, match="carcinoma is the only class annotated"):
        trained(path, scheme, settings)


def test_class_names_that_the_scheme_does_not_have_stop_training_and_get_a_map(folder, scheme):
    entries = [drawn(folder, name, Tumor=(0, 0), Stroma=(40, 0)) for name in "abc"]
    path = written(folder, entries[:2], entries[2:], [entry("d")])
    found = inspect_datalist(path, scheme, SETTINGS, owner="mine")
    assert "annotations use Stroma (3 slides), Tumor (3), which are not classes of mine" in found.all_stops[0]
    assert "--class_map \"{'Stroma': 'stroma', 'Tumor': 'carcinoma'}\"" in found.all_stops[0]
    with pytest.raises(UnreadableFileError, match="'Tumor'"):
        trained(path, scheme)
    mapped = [{**one, "class_map": {"Stroma": "stroma", "Tumor": "carcinoma"}} for one in entries]
    path = written(folder, mapped[:2], mapped[2:], [entry("d")])
    settings = replace(SETTINGS, allow_missing=None)
    assert inspect_datalist(path, scheme, settings).can_train
    assert trained(path, scheme, settings) > 0


def test_unknown_names_of_testing_slides_are_advice(folder, scheme):
    path = written(folder, [entry("a")], [entry("b")], [drawn(folder, "d", Tumor=(0, 0))])
    found = inspect_datalist(path, scheme, SETTINGS)
    assert found.can_train
    assert any("annotations use Tumor (1 slide), which is not a class of" in text for text in found.all_advice)
    assert trained(path, scheme) == 32


def test_packed_annotations_of_a_folder_give_the_patches_that_unpacked_ones_give(tmp_path, scheme):
    """From the two folders through the datalist and the inspection to what a training reads."""
    slides, found = tmp_path / "slides", {}
    slides.mkdir()
    corners = {name: (20 * number, 30) for number, name in enumerate(scheme.names)}
    for kind, ending in (("plain", ".geojson"), ("packed", ".GeoJSON.gz")):
        (tmp_path / kind).mkdir()
        for name in ("a", "b", "c"):
            Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(slides / f"{name}.png")
            drawn(tmp_path / kind, name, **corners)
            content = (tmp_path / kind / f"{name}.geojson").read_bytes()
            (tmp_path / kind / f"{name}.geojson").unlink()
            (tmp_path / kind / f"{name}{ending}").write_bytes(content if kind == "plain" else gzip.compress(content))
        table = tmp_path / "t.csv"
        table.write_text("slide,mpp\na.png,0.5\nb.png,0.5\nc.png,0.5\n")
        to = tmp_path / f"{kind}.json"
        path, pairing, _ = datalist_from_folders(slides, tmp_path / kind, to, 0.34, 0, table=table, scheme=scheme)
        assert len(pairing.pairs) == 3
        inspected = inspect_datalist(path, scheme, SETTINGS)
        assert inspected.all_stops == []
        read = LoadMultiMagnificationPatchd("image", VIEWS, target=TARGET, scheme=scheme)
        found[kind] = [read(item)["label"] for item in SETTINGS.dataset(load_datalist(path, "training"), scheme)]
    assert len(found["packed"]) == len(found["plain"]) > 2
    for packed, plain in zip(found["packed"], found["plain"], strict=True):
        assert np.array_equal(packed, plain)
    assert {int(value) for label in found["packed"] for value in np.unique(label)} == set(range(7))


def test_an_annotation_of_another_slide_is_noticed(folder, scheme):
    # Of two squares, three quarters of one: 37.5 %.
    settings = replace(SETTINGS, allow_missing=None)
    entries = [drawn(folder, "a", carcinoma=(0, 0), stroma=(115, 50)), entry("b")]
    path = written(folder, entries[:1], entries[1:], [entry("d")])
    found = inspect_datalist(path, scheme, settings)
    assert any("38% of the annotated area lies outside the slide" in text for text in found.all_advice)
    assert found.can_train
    assert trained(path, scheme, settings) > 0


def test_unreadable_pixels_stop_training_only_where_it_reads_them(shared_data, scheme, tmp_path):
    """One damaged tile, in the middle of what is annotated, or outside."""
    slide = shared_data / "malformed" / "tile_offset_zero.svs"
    settings = replace(SETTINGS, allow_missing=None, min_labelled=0.9)
    around = np.zeros((297, 222), dtype=np.uint8)
    around[140:172, 115:150], around[150:160, 115:150] = 4, 1
    corner = np.roll(around, (-140, -115), axis=(0, 1))
    for labels, stops in ((around, True), (corner, False)):
        Image.fromarray(labels).save(tmp_path / "labels.png")
        item = {"image": str(slide), "label": str(tmp_path / "labels.png")}
        path = written(tmp_path, [item], [item], [item])
        found = inspect_datalist(path, scheme, settings, patches=-1)
        assert found.can_train != stops
        assert any("tile 65" in text for text in (found.all_stops if stops else found.all_advice))
        if stops:
            with pytest.raises(UnreadableFileError, match="tile 65"):
                trained(path, scheme, settings)
        else:
            assert trained(path, scheme, settings) > 0


def test_slides_that_fit_into_no_tile_stop_training(folder, scheme):
    """As DA-RefineNet's, whose targets must lie in one tile; of slides that are read finer than they are shown."""
    path = written(folder, [entry("a")], [entry("b")], [entry("d")])
    settings = replace(SETTINGS, within={"mpp": 0.5, "size": 30})
    found = inspect_datalist(path, scheme, settings)
    assert [text.split(":")[0] for text in found.all_stops] == ["training", "validation"]
    with pytest.raises(ValueError, match="no target of 1 slides"):
        trained(path, scheme, settings)


def test_a_sampler_that_finds_no_patch_of_a_class_stops_training(folder, scheme):
    """A class may have pixels and yet no patch of which it is most."""
    path = written(folder, [entry("a")], [entry("b")], [entry("d")])

    def count(dataset):
        return len(ClassCycleSampler(dataset, ["carcinoma", "adipose"], 8, share=0.9))

    found = inspect_datalist(path, scheme, SETTINGS, count_batches=count)
    assert "training: no patch of adipose, carcinoma with 90% of its labelled pixels" in found.all_stops[0]
    with pytest.raises(ValueError, match="no patch of adipose, carcinoma"):
        count(SETTINGS.dataset(load_datalist(path, "training"), scheme))


def inspected(folder, capsys, **settings):
    """Exit code and lines of the command, for small views."""
    small = {"fields_of_view": [*VIEWS, {"mpp": 2.0, "size": 32}], "target": TARGET, **settings}
    (folder / "overlay.yaml").write_text(json.dumps(small))
    code = 0
    try:
        inspect(folder / "d.json", folder / "out", bundle="dmmn", config=str(folder / "overlay.yaml"))
    except SystemExit as leaving:
        code = leaving.code
    return code, capsys.readouterr().out.splitlines()


def test_the_command_separates_what_stops_training_from_advice(folder, capsys):
    written(folder, [entry("a"), entry("b")], [entry("a")], [entry("d")])
    code, lines = inspected(folder, capsys)
    assert code == 0
    stops, advice = lines.index("stops training:"), lines.index("advice:")
    assert lines[stops + 1] == "  nothing"
    assert lines[advice + 1].startswith("  slide a.png is in training and validation")
    assert lines[-1] == "verdict: nothing stops training (1 piece of advice)"
    assert "training: 2 slides, 32 targets" in "\n".join(lines)

    written(folder, [entry("a"), entry("b", label="none.png")], [entry("c")], [entry("d")])
    code, lines = inspected(folder, capsys)
    assert code == 1
    assert "none.png: no such file" in lines[lines.index("stops training:") + 1]
    assert lines[-1] == "verdict: training would stop (1 finding). Correct it and inspect again"
    header, *rows = (folder / "out" / "slides.csv").read_text().splitlines()
    assert header.endswith(",stops training,advice")
    assert [("none.png: no such file" in row) for row in rows] == [False, True, False, False]
    assert Image.open(folder / "out" / "contact_sheet.png").width > 480


def test_the_command_asks_the_config_what_may_be_missing(folder, capsys):
    """Classes, sampler and batches are the config's: what stops one training does not stop another."""
    left = [entry(name, regions=[[0, 0, 100, 40]]) for name in "abc"]
    written(folder, left[:2], left[2:], [entry("d")])
    code, lines = inspected(folder, capsys)
    assert code == 1
    assert "no labelled pixel of background" in lines[lines.index("stops training:") + 1]
    code, lines = inspected(folder, capsys, allow_missing=None)
    assert code == 0
    assert any("stroma in training, which allow_missing permits" in line for line in lines)
    code, lines = inspected(folder, capsys, allow_missing=None, batch_size=1000)
    assert code == 1
    assert re.search(r"training: \d+ patches fill no batch", lines[lines.index("stops training:") + 1])


def test_at_most_twenty_findings_of_a_kind_are_printed(folder, capsys):
    missing = [entry("a", label=f"none_{number}.png") for number in range(25)]
    written(folder, [*missing, entry("b")], [entry("c")], [entry("d")])
    code, lines = inspected(folder, capsys)
    assert code == 1
    assert sum("no such file" in line for line in lines) == 20
    assert "  and 5 more, of single slides: see slides.csv" in lines


def test_patches_that_fill_no_batch_are_not_trained_on():
    """The loader leaves out the last batch unless it is full, and the trainer passes over an epoch without one."""
    network = torch.nn.Linear(1, 1)
    loader = DataLoader([{"image": torch.ones(1), "label": torch.ones(1)}] * 3, batch_size=4, drop_last=True)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.MSELoss(),
    )
    with pytest.warns(UserWarning, match="is empty"):
        trainer.run()
    assert trainer.state.iteration == 0


@pytest.mark.parametrize(
    "scope", [{}, {"regions": [[0, 0, 100, 120]], "unannotated": {"class": "stroma", "within": "slide"}}]
)
def test_objects_that_later_ones_cover_are_advice(folder, scheme, caplog, scope):
    hidden = drawn(folder, "a", carcinoma=(10, 10))
    features = json.loads((folder / "a.geojson").read_text())
    ring = [[0, 0], [90, 0], [90, 90], [0, 90], [0, 0]]
    large = {"type": "Polygon", "coordinates": [ring]}
    features.append({"type": "Feature", "geometry": large, "properties": {"classification": {"name": "stroma"}}})
    (folder / "a.geojson").write_text(json.dumps(features))
    path = written(folder, [hidden | scope, entry("b")], [entry("c")])
    advice = inspect_datalist(path, scheme, SETTINGS).all_advice
    found = [line for line in advice if "label nothing" in line]
    assert len(found) == 1
    assert re.search(r"a\.geojson: .*cover them completely \(1\): .*0.*Put large outlines before", found[0])
    assert not [line for line in advice if "label nothing" in line and "b_labels" in line]


@pytest.mark.parametrize("snap", [0.03, 0.0])
@pytest.mark.parametrize("mpp", [(0.5, 0.5), (0.51, 0.51), (0.49, 0.49), (0.45, 0.55), (0.55, 0.45), (0.4, 0.4)])
def test_a_slide_is_called_coarse_just_where_reading_it_interpolates(tmp_path, caplog, mpp, snap):
    slide = open_slide(write_pyramid(tmp_path / "a.tif", [np.full((96, 96, 3), 99, np.uint8)], mpp, lossless=True))
    reader = PatchReader([FieldOfView(0.5, 16)], snap=snap)
    reader.read(slide, (48, 48))
    assert reader.interpolates(slide) == any("interpolated" in record.message for record in caplog.records)
    # Within 3 % the level is read as it is stored; else a pixel longer than 0.5 µm along either axis is divided.
    stored = snap > 0 and max(mpp) == min(mpp) and abs(mpp[0] / 0.5 - 1) <= snap
    assert reader.interpolates(slide) == (max(mpp) > 0.5 and not stored)

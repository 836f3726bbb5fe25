"""What inspection finds wrong with a datalist before training does."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from common.data.inspection import inspect_datalist

VIEWS = [{"mpp": 0.5, "size": 32}, {"mpp": 1.0, "size": 32}]
ASKED = {"fields_of_view": VIEWS, "target": {"mpp": 0.5, "size": 32}}


@pytest.fixture
def folder(tmp_path):
    """Slides of 100 x 120 pixels, each with all six classes in columns of 20 pixels."""
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / f"{name}.png")
        labels = np.repeat(np.arange(1, 7, dtype=np.uint8), 20)[None].repeat(100, axis=0)
        Image.fromarray(labels).save(tmp_path / f"{name}_labels.png")
    return tmp_path


def entry(name, **more):
    return {"image": f"{name}.png", "label": f"{name}_labels.png", "mpp": 0.5, **more}


def inspected(folder, scheme, training, validation, testing=None, **more):
    content = {"training": training, "validation": validation, **({"testing": testing} if testing else {})}
    (folder / "d.json").write_text(json.dumps(content))
    return inspect_datalist(folder / "d.json", scheme, **ASKED, **more)


def test_a_sound_datalist_has_areas_and_no_complaint(folder, scheme):
    found = inspected(folder, scheme, [entry("a"), entry("b")], [entry("c")])
    assert found.sound, found.problems
    first = found.slides[0]
    # 20 x 100 pixels of 0.5 µm each.
    assert first.annotated == {name: pytest.approx(20 * 100 * 0.25e-6) for name in scheme.names}
    assert (first.shape, first.mpp, first.targets) == ((100, 120), 0.5, 16)
    assert first.thumbnail.shape[:2] == first.labels.shape == (100, 120)
    assert list(found.table(scheme)["carcinoma mm²"]) == [0.0005] * 3


def problems(found):
    return "\n".join([*(p for s in found.slides for p in s.problems), *found.problems])


@pytest.mark.parametrize(
    ("training", "validation", "says"),
    [
        ([entry("a")], [entry("a")], "slide a.png is in training and validation"),
        ([entry("a", patient="7")], [entry("b", patient="7")], "patient 7 is in training and validation"),
        ([entry("a")], [], 'section "validation" is empty'),
        ([entry("a", mpp=None)], [entry("b")], "a.png: the file does not say"),
        ([entry("a", mpp=0.9)], [entry("b")], "coarser than the 0.5 that are read"),
        ([entry("a", mpp=2.0)], [entry("b")], "more than twice as fine"),
        ([{**entry("a"), "image": "none.svs"}], [entry("b")], "none.svs: no such file"),
        ([entry("a", label_values={"1": "stroma"})], [entry("b")], r"no class: \[2, 3"),
        ([entry("a", regions=[[0, 0, 100, 20]])], [entry("b")], "no labelled pixel of stroma in training"),
        ([entry("a")], [entry("b", regions=[[0, 0, 100, 20]])], "no labelled pixel of stroma in validation"),
        ([entry("a", regions=[[0, 0, 60, 120]])], [entry("b")], "of necrotic in training, less than 3 targets"),
    ],
)
def test_what_would_go_wrong_is_said(folder, scheme, training, validation, says):
    found = inspected(folder, scheme, training, validation)
    assert not found.sound
    assert re.search(says, problems(found)), problems(found)


def test_an_annotation_of_another_slide_is_noticed(folder, scheme):
    square = [[100, 50], [300, 50], [300, 90], [100, 90], [100, 50]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"classification": {"name": "stroma"}},
    }
    (folder / "a.geojson").write_text(json.dumps([feature]))
    found = inspected(folder, scheme, [entry("a", label="a.geojson")], [entry("b")])
    assert "90% of the annotated area lies outside the slide" in problems(found)


def test_unreadable_pixels_are_found_where_training_would_read_them(shared_data, scheme, tmp_path):
    """One damaged tile, in the middle of what is annotated."""
    slide = shared_data / "malformed" / "tile_offset_zero.svs"
    labels = np.full((297, 222), 4, dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    item = {"image": str(slide), "label": str(tmp_path / "labels.png")}
    found = inspected(tmp_path, scheme, [item], [item])
    assert "tile 65" in problems(found)


def test_the_command_writes_table_and_pictures_and_its_exit_code_tells(folder):
    for validation, code in ((entry("c"), 0), (entry("a"), 1)):
        content = {"training": [entry("a"), entry("b")], "validation": [validation]}
        (folder / "d.json").write_text(json.dumps(content))
        command = [sys.executable, "-m", "common", "inspect", folder / "d.json", "--out", folder / "out"]
        (folder / "overlay.yaml").write_text(json.dumps(ASKED))
        command += ["--config", f"['train.yaml','{folder / 'overlay.yaml'}']"]
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert result.returncode == code, result.stderr
        assert ("! slide a.png is in training and validation" in result.stdout) == bool(code)
        assert "training: 2 slides, 32 targets" in result.stdout
    assert (folder / "out" / "slides.csv").read_text().count("\n") == 4
    assert Image.open(folder / "out" / "contact_sheet.png").width > 480

"""The commands that write datalists and inspect them, as they are typed."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from common.cli.dispatch import run

COMMANDS = {
    "train": {
        "datalist folder": "data:datalist_folder",
        "datalist folds": "data:datalist_folds",
        "datalist camelyon16": "data:datalist_camelyon16",
        "datalist bach": "data:datalist_bach",
        "inspect": "data:inspect",
    }
}
# QuPath's classes, and one of one's own; each is 60 pixels wide.
CLASSES = ("Tumor", "Stroma", "Necrosis", "Immune cells", "benign glands", "Fat", "Glass", "Ignore*", "Whatever")


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Run a command line in a folder: exit code, and the lines that it prints, or says of what is wrong with it."""
    monkeypatch.chdir(tmp_path)

    def run_line(line):
        code = 0
        try:
            run(COMMANDS, shlex.split(line))
        except SystemExit as leaving:
            code = leaving.code
        said = capsys.readouterr()
        return code, (said.err if code == 2 else said.out).splitlines()

    return run_line


@pytest.fixture
def project(tmp_path):
    """Eight slides in a folder called 2023, and what QuPath exports of them; one is not annotated."""
    (tmp_path / "2023").mkdir()
    (tmp_path / "exported").mkdir()
    for number in range(8):
        Image.fromarray(np.full((300, 560, 3), 200, dtype=np.uint8)).save(
            tmp_path / "2023" / f"P{number // 2}_{number}.PNG"
        )
        features = []
        for position, name in enumerate(CLASSES):
            left, right = 60 * position, 60 * position + 60
            ring = [[left, 0], [right, 0], [right, 300], [left, 300], [left, 0]]
            properties = {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}}
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "id": "x", "geometry": geometry, "properties": properties})
        if number < 7:
            name = f"p{number // 2}_{number}.png - Series 1.geojson"
            (tmp_path / "exported" / name).write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    rows = [f"P{number // 2}_{number};0.5" for number in range(8)]
    (tmp_path / "mpp.csv").write_text("\n".join(["slide;mpp", *rows]))
    return tmp_path


def test_from_a_folder_of_slides_and_qupath_s_exports_to_a_datalist_that_trains(project, typed):
    """The suggestion is pasted as it stands, and what nobody can guess is left out by it."""
    command = "datalist folder 2023 exported --output lists/d.json --table mpp.csv --patient '(P.)_'"
    code, lines = typed(command)
    assert code == 0
    assert lines[0] == "left out, 1 slide without an annotation: P3_7.PNG"
    suggestion = lines[1].split("with, for example, ")[1]
    assert "null leaves what is drawn in that class unlabelled, also over what was drawn before it" in lines
    assert "? Whatever: no class could be guessed; replace its null if it stands for one" in lines
    assert lines[-1].endswith(": lists/d.json")

    code, lines = typed(f"{command} {suggestion}")
    assert code == 0
    assert len(lines) == 2
    content = json.loads((project / "lists" / "d.json").read_text())
    entries = [entry for section in content.values() for entry in section]
    expected = {
        "Fat": "adipose",
        "Glass": "background",
        "Ignore*": None,
        "Immune cells": None,
        "Necrosis": "necrotic",
        "Stroma": "stroma",
        "Tumor": "carcinoma",
        "Whatever": None,
        "benign glands": "benign epithelial",
    }
    assert [entry["class_map"] for entry in entries] == [expected] * 7
    assert {(entry["patient"], entry["mpp"]) for entry in entries} == {(f"P{n}", 0.5) for n in range(4)}

    code, lines = typed("inspect lists/d.json --output looked")
    assert code == 0, lines
    assert lines[lines.index("stops training:") + 1] == "  nothing"
    assert lines[-1].startswith("verdict: nothing stops training")


def test_without_the_class_map_inspection_stops_and_repeats_the_suggestion(project, typed):
    typed("datalist folder 2023 exported --table mpp.csv")
    code, lines = typed("inspect datalist.json --bundle mrn --output looked")
    assert code == 1
    first = lines[lines.index("stops training:") + 1]
    assert "which are not classes of pathology_mrn_segmentation (normal, tumour)" in first
    assert "'Tumor': 'tumour'" in first
    assert lines[-1].startswith("verdict: training would stop")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--class_map \"{'Tumor': 'tumour'}\"", "a class of pathology_dmmn_segmentation. Did you mean 'carcinoma'?"),
        (
            "--class_map \"{'Tumor': 'tumor'}\" --bundle mrn",
            "not a class of pathology_mrn_segmentation. Did you mean 'tumour'?",
        ),
        ("--class_map Tumor=carcinoma", "class_map must map names"),
        ("--bundle dnnm", "dnnm: no such bundle"),
        ("--config nothing.yaml", "nothing.yaml: no such config"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_is_right(project, typed, options, says):
    code, lines = typed(f"datalist folder 2023 exported {options}")
    assert code == 2
    assert len(lines) == 1
    assert says in lines[0]
    assert not (project / "datalist.json").exists()


def test_names_that_are_mapped_in_vain_are_a_warning(project, typed):
    code, lines = typed("datalist folder 2023 exported --class_map \"{'Tumour': 'carcinoma'}\"")
    assert code == 0
    assert any(line.startswith("warning: class_map names 'Tumour', which no annotation uses") for line in lines)


def test_the_classes_are_those_of_the_bundle_s_config(project, typed):
    classes = [{"name": "tumour bed", "color": [1, 2, 3], "label": 1, "channel": 0}]
    classes += [{"name": "rest", "color": [3, 2, 1], "label": 2, "channel": 1}]
    scheme = {"_target_": "common.classes.ClassScheme", "activation": "softmax", "classes": classes}
    (project / "own.yaml").write_text(json.dumps({"scheme": scheme}))
    code, lines = typed("datalist folder 2023 exported --config own.yaml --class_map \"{'Tumor': 'tumour bed'}\"")
    assert code == 0
    assert any("(tumour bed, rest)" in line for line in lines)


def test_folds_and_camelyon16(typed, tmp_path):
    names = [f"normal_{number:03d}" for number in range(1, 5)] + ["tumor_001", "tumor_002", "tumor_003"]
    for name in names:
        path = tmp_path / "C16" / "training" / name.split("_")[0] / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "C16" / "training" / "lesion_annotations").mkdir()
    for name in ("tumor_001", "tumor_002"):
        (tmp_path / "C16" / "training" / "lesion_annotations" / f"{name}.xml").touch()
    code, lines = typed("datalist camelyon16 C16 --output lists/c.json --validation 0.5")
    assert code == 0
    assert lines[-1] == "lists/c.json"
    assert "left out: tumor_003, no tumor_003.xml" in lines
    assert "training: 2 normal, 1 tumour" in lines
    code, lines = typed("datalist folds lists/c.json --output folds --folds 3 --by image")
    assert code == 0
    assert [line.split(": ")[1] for line in lines] == [f"folds/fold_{n}.json" for n in (1, 2, 3)]


def test_bach_says_what_is_missing(typed, tmp_path):
    for name in ("A02", "A05"):
        (tmp_path / f"{name}.svs").write_text("")
    region = '<Region Type="0" Text="benign"/>'
    (tmp_path / "A02.xml").write_text(
        f"<Annotations><Annotation><Regions>{region}</Regions></Annotation></Annotations>"
    )
    code, lines = typed("datalist bach . --output bach.json")
    assert code == 0
    assert "left out: A05, no A05.xml" in lines
    assert "missing: A10.svs, for validation" in lines
    assert "training: A02" in lines
    assert "testing: none" in lines


_EVIL = "\x1b]0;owned\x07\x1b[2Jx"
_SHOWN = "\\x1b]0;owned\\x07\\x1b[2Jx"


@pytest.fixture
def evil_project(project):
    """The same with control characters in a class name, in a file's name and in the folder's."""
    slides = project / f"slides{_EVIL}"
    (project / "2023").rename(slides)
    (slides / "P3_7.PNG").rename(slides / f"P3_7{_EVIL}.PNG")
    for path in (project / "exported").iterdir():
        path.write_text(path.read_text().replace('"Whatever"', json.dumps(f"What\n{_EVIL}\rever")))
    return project


def test_no_name_of_a_stranger_reaches_the_terminal_as_it_is(evil_project, monkeypatch, capsys):
    """Escape sequences could change the window, or erase what was said."""
    monkeypatch.chdir(evil_project)
    options = ["--table", "mpp.csv", "--output", f"lists{_EVIL}/d.json"]
    for command, says in (
        (["datalist", "folder", f"slides{_EVIL}", "exported", *options], f"What\\n{_SHOWN}\\rever"),
        (["inspect", f"lists{_EVIL}/d.json", "--output", f"looked{_EVIL}"], f"What\\n{_SHOWN}\\rever"),
        (["inspect", f"nowhere{_EVIL}.json"], f"nowhere{_SHOWN}.json"),
    ):
        with suppress(SystemExit):
            run(COMMANDS, command)
        printed = "".join(capsys.readouterr())
        assert not set(printed) & set("\x1b\x07"), command
        assert says in printed, command

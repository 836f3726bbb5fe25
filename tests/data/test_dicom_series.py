"""Files of one DICOM slide are one slide."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from common.cohort.manifest import read_manifest
from common.data import SlideDataset, load_datalist, slide_items
from common.data.folders import datalist_from_folders
from common.slides import open_slide
from tests.slides.test_scanner_formats import dicom


@pytest.fixture(params=["pydicom", "OpenSlide"])
def library(request, monkeypatch):
    """pydicom, which comes with an extra, and what reads series without it."""
    if request.param == "OpenSlide":
        monkeypatch.setattr("common.data.dicom_series.find_spec", lambda name: None)


@pytest.fixture
def slides(tmp_path):
    """Two DICOM slides of three files, in a folder each under the same names, and one of another kind."""
    for name in ("S21-1", "S21-2"):
        (tmp_path / "slides" / name).mkdir(parents=True)
        dicom(tmp_path / "slides" / name)
    Image.new("RGB", (64, 64)).save(tmp_path / "slides" / "plain.png")
    return tmp_path / "slides"


@pytest.mark.usefixtures("library")
def test_a_glob_of_files_is_one_slide(slides):
    assert slide_items(f"{slides}/S21-1/*.dcm") == [{"image": f"{slides}/S21-1/0.dcm"}]
    assert [item["name"] for item in SlideDataset(f"{slides}/S21-1/*")] == ["0"]
    files = [f"{slides}/S21-1/{number}.dcm" for number in (2, 0, 1)]
    (item,) = slide_items(files)
    with open_slide(item["image"]) as slide:
        assert slide.shape == (256, 256)


@pytest.mark.usefixtures("library")
def test_slides_of_one_folder_stay_apart(slides):
    for path in (slides / "S21-2").iterdir():
        path.rename(slides / "S21-1" / f"b{path.name}")
    names = [item["name"] for item in SlideDataset(f"{slides}/S21-1/*.dcm")]
    assert names == [item["name"] for item in SlideDataset(slides / "S21-1")] == ["0", "b0"]
    (slides / "S21-1" / "broken.dcm").write_bytes(b"nothing")
    assert [item["name"] for item in SlideDataset(slides / "S21-1")] == ["0", "b0", "broken"]


def test_a_folder_of_files_is_a_slide_of_its_name(slides):
    items = list(SlideDataset([str(slides / "S21-1"), str(slides / "S21-2")]))
    assert [item["name"] for item in items] == ["S21-1", "S21-2"]
    assert [item["image"] for item in items] == [f"{slides}/S21-1/0.dcm", f"{slides}/S21-2/0.dcm"]
    assert [item["name"] for item in SlideDataset(f"{slides}/*")] == ["S21-1", "S21-2", "plain"]


def test_a_datalist_may_name_the_folder(slides, tmp_path):
    entries = [{"image": f"slides/S21-{number}", "case": number} for number in (1, 2)]
    (tmp_path / "d.json").write_text(json.dumps({"testing": entries}))
    assert load_datalist(tmp_path / "d.json", "testing", require_label=False)[1]["image"] == f"{slides}/S21-2/0.dcm"
    assert [item["name"] for item in SlideDataset(tmp_path / "d.json")] == ["S21-1", "S21-2"]
    assert [item["name"] for item in SlideDataset(tmp_path / "d.json", name_by="case")] == ["1", "2"]


def test_a_cohort_finds_the_same_slides(slides, tmp_path):
    found = read_manifest([f"{slides}/S21-1/*.dcm", f"{slides}/S21-2", f"{slides}/plain.png"])
    assert [slide.name for slide in found] == ["0", "S21-2", "plain"]
    (tmp_path / "list.csv").write_text("image;mpp\nslides/S21-1;0,25\nslides/S21-2;0,25\n;\n")
    found = read_manifest(tmp_path / "list.csv")
    assert [(slide.name, slide.entry["mpp"]) for slide in found] == [("S21-1", 0.25), ("S21-2", 0.25)]


def test_an_annotation_is_paired_with_the_folder_or_a_file(slides, tmp_path):
    (tmp_path / "drawn").mkdir()
    for name in ("S21-1", "plain"):
        (tmp_path / "drawn" / f"{name}.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    path, pairing, _ = datalist_from_folders(slides, tmp_path / "drawn", tmp_path / "d.json", 0, 0)
    assert [item["image"] for item in json.loads(path.read_text())["training"]] == ["slides/S21-1", "slides/plain.png"]
    assert [one.relative_to(slides).as_posix() for one in pairing.slides_alone] == ["S21-2/0.dcm"]
    images = [item["image"] for item in load_datalist(path, "training")]
    assert images == [f"{slides}/S21-1/0.dcm", f"{slides}/plain.png"]

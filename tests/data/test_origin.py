"""The origin of annotations of slides with bounds, as datalists and inspection find it."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotatedRegion, AnnotationError, read_annotations, write_asap_xml, write_geojson
from common.cli.dispatch import run
from common.data import load_datalist
from common.data.folders import datalist_from_folders, folder_remarks
from common.data.inspection import PatchSettings, inspect_datalist
from common.data.origin import evidence_of_files, origin_evidence
from common.slides import open_entry, open_slide
from tests.slides.test_scanner_formats import leica, mirax

COMMANDS = {"train": {"datalist folder": "data:datalist_folder", "inspect": "data:inspect"}}
SETTINGS = PatchSettings([{"mpp": 0.5, "size": 64}], {"mpp": 0.5, "size": 64}, training=True, allow_missing=None)
STROMA, BACKGROUND = 4, 3
# Tissue on the scanned part: rows and columns 200 to 600.
TISSUE = (200, 200, 600, 600)
json_loads = json.loads


def scn(folder, name="a.scn", tissue=TISSUE, corner=(400, 300)):
    """A slide of 2,000 pixels a side, of which 1,024 a side from ``corner`` on were scanned."""
    left, top, right, bottom = tissue
    scan = np.full((1024, 1024, 3), 245, np.uint8)
    scan[top:bottom, left:right] = (150, 60, 130)
    return leica(folder, [scan, scan[::2, ::2], scan[::4, ::4]], corner, (2000, 2000), name)[0]


def exported(path, *drawn):
    """As QuPath's menu exports rectangles of classes."""
    features = []
    for name, corners in drawn:
        ring = [list(corner) for corner in shapely.box(*corners).exterior.coords]
        properties = {"objectType": "annotation", "classification": {"name": name}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def evidence(slide, path, scheme):
    with open_slide(slide) as opened:
        return origin_evidence(opened, read_annotations(path, scheme), scheme)


def test_the_origin_that_puts_outlines_on_tissue_is_told(tmp_path, scheme):
    slide = scn(tmp_path)
    exported(tmp_path / "a.geojson", ("stroma", TISSUE))
    found = evidence(slide, tmp_path / "a.geojson", scheme)
    # From the slide's corner, rows 200 to 600 meet tissue in 600 to 1,000 nowhere.
    assert found.shares == {"slide": pytest.approx(0, abs=0.02), "bounds": pytest.approx(1, abs=0.02)}
    assert found.best == "bounds"
    x, y = 300, 400
    moved = [AnnotatedRegion(STROMA, shapely.box(x + 200, y + 200, x + 600, y + 600))]
    write_asap_xml(tmp_path / "a.xml", moved, scheme)
    assert evidence(slide, tmp_path / "a.xml", scheme).best == "slide"


def test_how_much_is_on_tissue_is_a_share_of_all_that_was_drawn(tmp_path, scheme):
    slide = scn(tmp_path)
    # Of columns 200 to 600 and rows 200 to 1,000: half on tissue from the bounds.
    exported(tmp_path / "a.geojson", ("stroma", (200, 200, 600, 1000)))
    found = evidence(slide, tmp_path / "a.geojson", scheme)
    # From the slide's corner: rows 600 to 1,000, columns 500 to 600.
    assert found.shares == {"slide": pytest.approx(0.125, abs=0.01), "bounds": pytest.approx(0.5, abs=0.01)}
    # Counted from the slide's corner, columns -200 to 600 are outside of it below 0, and tissue from 300 on. From the
    # bounds, they are columns 100 to 900.
    slide = scn(tmp_path, "b.scn", tissue=(0, 0, 1024, 1024))
    exported(tmp_path / "b.geojson", ("stroma", (-200, 500, 600, 700)))
    found = evidence(slide, tmp_path / "b.geojson", scheme)
    assert found.shares == {"slide": pytest.approx(300 / 800, abs=0.01), "bounds": pytest.approx(600 / 800, abs=0.01)}


def test_what_is_drawn_as_background_says_nothing(tmp_path, scheme):
    slide = scn(tmp_path)
    exported(tmp_path / "a.geojson", ("background", (300, 400, 1900, 1900)), ("stroma", TISSUE))
    assert evidence(slide, tmp_path / "a.geojson", scheme).best == "bounds"
    exported(tmp_path / "a.geojson", ("background", TISSUE))
    found = evidence(slide, tmp_path / "a.geojson", scheme)
    assert (found.shares, found.best) == ({"slide": 0, "bounds": 0}, None)


def test_a_label_image_fits_the_picture_that_it_covers(tmp_path, scheme):
    slide = scn(tmp_path, corner=(400, 300))
    labels = np.zeros((512, 512), np.uint8)
    labels[100:300, 100:300] = STROMA
    Image.fromarray(labels).save(tmp_path / "a.png")
    # Both are square: from the slide's corner it would be scaled up to 390 to 1,171 pixels, of which 400² are tissue.
    found = evidence(slide, tmp_path / "a.png", scheme)
    assert found.shares == {"slide": pytest.approx(400**2 / 781**2, abs=0.01), "bounds": pytest.approx(1, abs=0.02)}
    assert found.best == "bounds"


def test_slides_whose_origins_are_one_have_no_evidence(tmp_path, scheme):
    exported(tmp_path / "a.geojson", ("stroma", (0, 0, 100, 100)))
    assert evidence(mirax(tmp_path)[0], tmp_path / "a.geojson", scheme) is None
    Image.fromarray(np.full((300, 300, 3), 200, np.uint8)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=0.5) as slide:
        assert origin_evidence(slide, read_annotations(tmp_path / "a.geojson", scheme), scheme) is None


@pytest.fixture
def folders(tmp_path, scheme):
    """Slides: one drawn in QuPath, one in ASAP, one whose outline could be either, one of ours, one without bounds."""
    slides, drawn = tmp_path / "slides", tmp_path / "drawn"
    slides.mkdir()
    drawn.mkdir()
    for name in ("asap", "qupath", "ours"):
        scn(slides, f"{name}.scn")
    scn(slides, "either.scn", tissue=(0, 0, 1024, 1024))
    Image.fromarray(np.full((300, 300, 3), 200, np.uint8)).save(slides / "plain.png")
    exported(drawn / "qupath.geojson", ("Tumour nests", TISSUE), ("Glass", (650, 650, 1000, 1000)))
    placed = [AnnotatedRegion(STROMA, shapely.box(500, 600, 900, 1000))]
    write_asap_xml(drawn / "asap.xml", placed, scheme)
    write_geojson(drawn / "ours.geojson", placed, scheme)
    exported(drawn / "either.geojson", ("stroma", (400, 500, 600, 700)))
    exported(drawn / "plain.geojson", ("stroma", (0, 0, 100, 100)))
    return tmp_path


def test_a_datalist_of_folders_says_the_origin_where_the_tissue_does(folders, scheme):
    paths = (folders / "slides", folders / "drawn", folders / "d.json", 0, 0)
    path, pairing, _ = datalist_from_folders(*paths, scheme=scheme)
    said = {entry["image"].split("/")[-1]: entry.get("origin") for entry in load_datalist(path, "training")}
    assert said == {"qupath.scn": "bounds", "asap.scn": None, "either.scn": None, "ours.scn": None, "plain.png": None}
    remarks = [line for line in folder_remarks(pairing, scheme) if "bounds" in line]
    assert remarks == [
        "qupath.scn has bounds (from row 400, column 300): annotations lie on tissue to 100% counted from the bounds, "
        'to 0% from the slide\'s corner. The datalist says "origin": "bounds" there',
        "either.scn has bounds (from row 400, column 300): annotations lie on tissue to 100% counted from the bounds, "
        "to 100% from the slide's corner. It is taken to count from the slide's corner. If it does not, give --origin "
        "bounds",
    ]


@pytest.mark.parametrize("origin", ["bounds", "slide"])
def test_a_given_origin_is_written_but_where_a_file_says_its_own(origin, folders, scheme):
    paths = (folders / "slides", folders / "drawn", folders / "d.json", 0, 0)
    path, pairing, _ = datalist_from_folders(*paths, scheme=scheme, origin=origin)
    said = {entry["image"].split("/")[-1]: entry.get("origin") for entry in load_datalist(path, "training")}
    assert said == {name: None if name == "ours.scn" else origin for name in said}
    assert not pairing.origins
    with pytest.raises(ValueError, match="origin must be one of slide, bounds, not 'crop'"):
        datalist_from_folders(*paths, scheme=scheme, origin="crop")


def inspected(folder, scheme, **more):
    entry = {"image": "slides/qupath.scn", "label": "drawn/qupath.geojson"}
    entry |= {"class_map": {"Tumour nests": "carcinoma", "Glass": "background"}, **more}
    (folder / "i.json").write_text(json.dumps({"training": [entry], "validation": [entry]}))
    found = inspect_datalist(folder / "i.json", scheme, SETTINGS)
    return [text for text in [*found.slides[0].advice, *found.slides[0].stops] if "bounds" in text]


def test_inspection_says_which_origin_is_right_where_the_one_given_is_not(folders, scheme):
    (said,) = inspected(folders, scheme)
    assert said.endswith('bounds, to 0% from the slide\'s corner. Give "origin": "bounds" in the entry')
    assert inspected(folders, scheme, origin="slide") == [said]
    assert inspected(folders, scheme, origin="bounds") == []
    asap = {"image": "slides/asap.scn", "label": "drawn/asap.xml"}
    assert inspected(folders, scheme, **asap) == []
    (said,) = inspected(folders, scheme, **asap, origin="bounds")
    assert said.endswith('Give "origin": "slide" in the entry')
    assert inspected(folders, scheme, image="slides/ours.scn", label="drawn/ours.geojson") == []
    # Regions and what bare pixels are do not hide where the outlines lie.
    whole = {"unannotated": {"class": "stroma", "within": "slide"}, "regions": [[0, 0, 2000, 2000]]}
    assert len(inspected(folders, scheme, **whole)) == 1


def test_inspection_says_where_tissue_tells_no_origin_until_one_is_given(folders, scheme):
    either = {"image": "slides/either.scn", "label": "drawn/either.geojson"}
    (said,) = inspected(folders, scheme, **either)
    assert "to 100% counted from the bounds, to 100% from the slide's corner. See on the contact sheet" in said
    for origin in ("slide", "bounds"):
        assert inspected(folders, scheme, **either, origin=origin) == []


def test_inspection_says_that_bounds_cannot_be(folders, scheme, monkeypatch):
    with open_slide(folders / "slides" / "qupath.scn") as slide:
        damaged = {**slide.properties, "openslide.bounds-x": "5000"}
    monkeypatch.setattr("openslide.OpenSlide.properties", damaged)
    (said,) = inspected(folders, scheme)
    assert "qupath.scn: its bounds are impossible (" in said
    assert "bounds-x = '5000'" in said
    assert any("Give origin: slide" in text for text in inspected(folders, scheme, origin="bounds"))
    # A file that says from where it counts is not taken to count from anywhere.
    assert inspected(folders, scheme, image="slides/ours.scn", label="drawn/ours.geojson") == []


def test_the_commands_lead_from_qupaths_exports_to_labels_on_tissue(folders, monkeypatch, capsys):
    monkeypatch.chdir(folders)
    mapped = "\"{'Tumour nests': 'carcinoma', 'Glass': 'background'}\""
    table = folders / "mpp.csv"
    table.write_text("slide,mpp\n" + "".join(f"{path.name},0.5\n" for path in (folders / "slides").iterdir()))
    command = f"datalist folder slides drawn --bundle dmmn --table mpp.csv --class_map {mapped}"
    run(COMMANDS, shlex.split(command))
    said = capsys.readouterr().out
    assert 'The datalist says "origin": "bounds" there' in said
    entries = [entry for part in json.loads((folders / "datalist.json").read_text()).values() for entry in part]
    assert [entry["label"] for entry in entries if entry.get("origin") == "bounds"] == ["drawn/qupath.geojson"]
    run(COMMANDS, shlex.split(f"{command} --origin slide"))
    assert "has bounds" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(COMMANDS, ["inspect", "datalist.json"])
    assert 'Give "origin": "bounds" in the entry' in capsys.readouterr().out


def test_a_label_image_of_the_bounds_proportions_is_of_the_bounds(tmp_path, scheme):
    scan = np.full((1024, 512, 3), 245, np.uint8)
    scan[100:300, 100:300] = (150, 60, 130)
    slide, *_ = leica(tmp_path, [scan, scan[::2, ::2]], (400, 300), (2000, 2000))
    labels = np.zeros((256, 128), np.uint8)
    # Not even on tissue.
    labels[200:250, 50:100] = STROMA
    Image.fromarray(labels).save(tmp_path / "a.png")
    found = evidence(slide, tmp_path / "a.png", scheme)
    assert (found.best, found.shares["slide"]) == ("bounds", None)
    assert "not at all (other proportions) from the slide's corner" in str(found)


def label_image(folder, value):
    """A slide whose tissue has a value in a label image of its bounds, and the entry."""
    labels = np.zeros((1024, 1024), np.uint8)
    left, top, right, bottom = TISSUE
    labels[top:bottom, left:right] = value
    Image.fromarray(labels).save(folder / "a.png")
    return {"image": str(scn(folder)), "label": str(folder / "a.png")}


def test_the_outlines_of_a_slide_with_bounds_are_parsed_once(tmp_path, monkeypatch):
    entry = {"image": str(scn(tmp_path)), "label": str(tmp_path / "a.geojson")}
    exported(tmp_path / "a.geojson", ("stroma", TISSUE))
    parsed = []
    monkeypatch.setattr("common.annotations.geojson.json.loads", lambda text: parsed.append(text) or json_loads(text))
    assert evidence_of_files(entry, None).best == "bounds"
    assert len(parsed) == 1
    # Another call reads the file again: it may have changed.
    exported(tmp_path / "a.geojson", ("stroma", (700, 600, 900, 900)))
    assert evidence_of_files(entry, None).best == "slide"
    assert len(parsed) == 2


def test_a_label_image_with_an_unknown_value_is_not_said_to_have_other_proportions(tmp_path, scheme):
    entry = label_image(tmp_path, 77)
    with pytest.raises(AnnotationError, match=r"pixel values that stand for no class: \[77\]"):
        evidence(entry["image"], entry["label"], scheme)


def test_the_fields_of_an_entry_say_how_its_label_image_is_compared_with_tissue(tmp_path, scheme):
    entry = label_image(tmp_path, 77)
    for classes in (scheme, None):
        found = evidence_of_files({**entry, "label_values": {"0": None, "77": "stroma"}}, classes)
        assert found.best == "bounds"
        assert found.shares["bounds"] == pytest.approx(1, abs=0.02)
    assert evidence_of_files(entry, None).best == "bounds"
    pixels = np.asarray(Image.open(entry["label"]))
    Image.fromarray(np.stack([pixels * 0 + 5, pixels, pixels * 0], axis=2)).save(entry["label"])
    red = {**entry, "label_values": {"0": None, "77": "stroma"}, "label_channel": "green"}
    assert evidence_of_files(red, scheme).best == "bounds"


def test_of_a_slide_with_bounds_whose_annotation_cannot_be_compared_the_reason_is_said(folders, scheme):
    (folders / "drawn" / "qupath.geojson").write_text("no JSON")
    paths = (folders / "slides", folders / "drawn", folders / "d.json", 0, 0)
    path, pairing, _ = datalist_from_folders(*paths, scheme=scheme)
    (said,) = [line for line in folder_remarks(pairing, scheme) if line.startswith("qupath.scn has bounds")]
    assert said.startswith(
        "qupath.scn has bounds (from row 400, column 300); which origin fits could not be told: qupath.geojson: "
    )
    assert said.endswith("It is taken to count from the slide's corner. If it does not, give --origin bounds")
    assert all("origin" not in entry for entry in load_datalist(path, "training"))


def test_plain_pictures_which_have_no_bounds_are_not_opened_for_them(folders, scheme, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "common.data.origin.open_entry", lambda entry: opened.append(entry["image"]) or open_entry(entry)
    )
    (folders / "slides" / "plain.png").rename(folders / "slides" / "plain.PNG")
    datalist_from_folders(folders / "slides", folders / "drawn", folders / "d.json", 0, 0, scheme=scheme)
    assert sorted(path.name for path in opened) == ["asap.scn", "either.scn", "ours.scn", "qupath.scn"]

"""Tables and lists as spreadsheets and editors save them."""

from __future__ import annotations

import json

import pytest

from common.cohort.manifest import read_manifest
from common.data import SlideDataset, load_datalist
from common.data.folders import datalist_from_folders, pair_by_name
from common.data.tables import parse_mpp, rows_of, text_of


@pytest.mark.parametrize(
    ("value", "mpp"), [("0.5", 0.5), ("0,5", 0.5), (" 2,5e-1 ", 0.25), (1, 1.0), (0.2524, 0.2524), ("1", 1.0)]
)
def test_mpp_is_a_number(value, mpp):
    found = parse_mpp(value)
    assert isinstance(found, float)
    assert found == mpp


@pytest.mark.parametrize("value", ["half", "", "1.234,5", "0,5,0", "nan", "inf", 0, -0.5, True, [0.5], None, (0, 5)])
def test_what_is_no_mpp_is_refused(value):
    with pytest.raises(ValueError, match=r"not a valid mpp|could not convert|not a number of µm"):
        parse_mpp(value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_read_however_they_are_saved(encoding, line, delimiter):
    rows = [["Slide", " MPP", "Stain"], ["Müller", "0.5", "H&E"], ["", "", ""], ["b", "", '"x\ny"']]
    text = line.join(delimiter.join(row) for row in rows)
    found = list(rows_of(text_of(text.encode(encoding)), ("slide", "mpp")))
    assert found == [
        (2, {"slide": "Müller", "mpp": "0.5", "Stain": "H&E"}),
        (5, {"slide": "b", "mpp": "", "Stain": "x\ny"}),
    ]


def test_mpp_of_every_list_is_a_number(tmp_path):
    (tmp_path / "d.json").write_text(json.dumps({"testing": [{"image": "a.svs", "mpp": "0,5"}]}))
    (tmp_path / "d.csv").write_text("image;mpp\na.svs;0,5\n")
    assert load_datalist(tmp_path / "d.json", "testing", require_label=False)[0]["mpp"] == 0.5
    assert [item["mpp"] for item in SlideDataset("a.svs", mpp="0.5")] == [0.5]
    for name in ("d.json", "d.csv"):
        assert [slide.entry["mpp"] for slide in read_manifest(str(tmp_path / name))] == [0.5]
    (tmp_path / "d.json").write_text(json.dumps({"testing": [{"image": "a.svs"}, {"image": "b.svs", "mpp": "20x"}]}))
    for read in (lambda path: load_datalist(path, "testing", False), lambda path: read_manifest(str(path))):
        with pytest.raises(ValueError, match=r'd\.json: entry 1 of "testing": mpp: .20x. is not a number'):
            read(tmp_path / "d.json")


def test_a_datalist_with_a_byte_order_mark_is_read(tmp_path):
    content = json.dumps({"testing": [{"image": "Müller.svs"}]}, ensure_ascii=False)
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "d.json").write_bytes(content.encode(encoding))
        (item,) = load_datalist(tmp_path / "d.json", "testing", require_label=False)
        assert item["image"] == str(tmp_path / "Müller.svs")
    (tmp_path / "d.json").write_bytes(content.encode("cp1252"))
    with pytest.raises(ValueError, match=r"d\.json: not JSON in UTF-8.*Save it as UTF-8"):
        load_datalist(tmp_path / "d.json", "testing", require_label=False)


@pytest.fixture
def folders(tmp_path):
    for name in ("slides/a.png", "drawn/a.geojson.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "slides", tmp_path / "drawn"


def test_a_table_of_a_german_spreadsheet_is_read_or_the_file_and_the_remedy_are_named(folders, tmp_path):
    table = tmp_path / "t.csv"
    table.write_bytes("Slide;MPP;Färbung\r\nA.png;0,5;HE\r\n;;\r\n".encode("utf-8-sig"))
    path, _, _ = datalist_from_folders(*folders, tmp_path / "d.json", 0, 0, table=table)
    (entry,) = json.loads(path.read_text(encoding="utf-8"))["training"]
    assert (entry["mpp"], entry["Färbung"]) == (0.5, "HE")
    table.write_bytes("slide;patient\r\na.png;Müller\r\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"t\.csv: not UTF-8\. Save the table as CSV UTF-8"):
        datalist_from_folders(*folders, tmp_path / "d.json", 0, 0, table=table)
    (tmp_path / "c.csv").write_bytes("image;patient\r\na.png;Müller\r\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"c\.csv: not UTF-8"):
        read_manifest(str(tmp_path / "c.csv"))


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.png.geojson.gz", "A_annotations.GeoJSON.GZ", "a.json.gz"])
def test_compressed_annotations_are_paired(folders, name):
    slides, drawn = folders
    (drawn / "a.geojson.gz").rename(drawn / name)
    assert pair_by_name(slides, drawn).pairs == {slides / "a.png": drawn / name}
    (drawn / "a.tar.gz").touch()
    assert pair_by_name(slides, drawn).annotations_alone == []


def test_messages_on_compressed_annotations_name_both_endings(folders):
    slides, drawn = folders
    (drawn / "a.geojson.gz").rename(drawn / "b.geojson.gz")
    with pytest.raises(ValueError, match=r"b\.geojson\.gz: a\.geojson\.gz would fit"):
        datalist_from_folders(slides, drawn, drawn / "d.json", 0, 0)
    (slides / "b.png").touch()
    (slides / "b.tif").touch()
    with pytest.raises(ValueError, match=r"Name it after one of them, ending included: b\.png\.geojson\.gz$"):
        pair_by_name(slides, drawn)

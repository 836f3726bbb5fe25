"""Slides' names as names of folders."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from common.data import SlideDataset, output_name, output_names
from common.files import inside, safe_name
from common.inference import WholeSlideInferer


@pytest.mark.parametrize(
    "name",
    [
        "TCGA-A1-A0SK-01Z-00-DX1.A44D70FA-4D96-43F4-9DD7-A61535786297",
        "case 1 (HE) [2]",
        "S #1",
        "50% $a @b",
        "Müller",
        "組織_1",
        "a..b",
        "CONTROL",
        "com10",
        "x" * 180,
    ],
)
def test_ordinary_names_stay(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("S21/1234", "S21_1234"),
        ("../../victim", "___.._victim"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\temp", "C__temp"),
        (".", "_"),
        ("..", "__"),
        (".cohort", "_cohort"),
        ("case.", "case_"),
        (" case ", "case"),
        ("a\nb\tc\x00", "a_b_c_"),
        ("a\u2028b\u202ecvs", "a_b_cvs"),
        ("bad\udcff", "bad_"),
        ('a<b>c:d"e|f?g*', "a_b_c_d_e_f_g_"),
        ("CON", "_CON"),
        ("nul.1", "_nul.1"),
        ("LPT9 .x", "_LPT9 .x"),
        (unicodedata.normalize("NFD", "Müller"), unicodedata.normalize("NFC", "Müller")),
    ],
)
def test_other_names_become_one_folder(name, safe):
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


def test_long_names_are_cut_between_letters_and_stay_different():
    one, other = safe_name("é" * 150 + "1"), safe_name("é" * 150 + "2")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 180
    assert one.startswith("é" * 85 + "-")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_empty_name_is_refused(name):
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        safe_name(name)


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (("S21/1", "S21_1"), "'S21/1' and 'S21_1' would share the folder 'S21_1'"),
        (("A", "a"), "'A' and 'a' would share the folder 'a'"),
        (("Stra\u00dfe", "STRASSE"), "would share the folder 'STRASSE'"),
        (("e\u0301", "\u00e9"), "would share the folder"),
        ((7, "7"), "two slides are called '7'"),
    ],
)
def test_two_slides_of_one_folder_are_an_error_that_names_both(ids, named):
    items = [{"image": f"{number}.svs", "id": value} for number, value in enumerate(ids)]
    with pytest.raises(ValueError, match=rf"{named}.*: 0.svs and 1.svs\. Name them by another column than 'id'"):
        output_names(items, "id")


@pytest.mark.parametrize("value", [None, "", " ", True, ["a"], {"a": 1}])
def test_a_column_without_a_name_is_refused(value):
    with pytest.raises(ValueError, match=r"^a\.svs: its"):
        output_name({"image": "a.svs", "id": value}, "id")


def test_a_slide_called_dots_gets_a_folder_of_its_own(tmp_path):
    names = [item["name"] for item in SlideDataset([tmp_path / "..png", tmp_path / ".png", tmp_path / "a.png"])]
    assert names == ["_", "_png", "a"]


def test_names_of_a_datalist_stay_in_the_output_folder(tmp_path):
    entries = [{"image": "a.svs", "id": "../../victim"}, {"image": "b.svs", "id": str(tmp_path / "absolute")}]
    (tmp_path / "d.json").write_text(json.dumps({"testing": entries}))
    for item in SlideDataset(tmp_path / "d.json", name_by="id"):
        assert (tmp_path / "out" / item["name"]).resolve().parent == (tmp_path / "out").resolve()


@pytest.mark.parametrize("name", ["../victim", ".", "..", "a/../../victim", "/victim", "a/.."])
def test_a_name_that_leads_out_of_a_folder_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="leads out of"):
        inside(tmp_path / "out", name)
    assert inside(tmp_path / "out", ".cohort/begun/a") == tmp_path / "out" / ".cohort" / "begun" / "a"
    assert inside("out", "a") == Path("out") / "a"


def test_the_engine_refuses_an_item_that_leads_out_of_its_output_folder(tmp_path, scheme):
    victim = tmp_path / "victim" / "summary.json"
    victim.parent.mkdir()
    victim.write_text("of someone else")
    view = {"mpp": 1.0, "size": 32}
    inferer = WholeSlideInferer([view], view, scheme, tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match=r"'\.\./victim' leads out of"):
        inferer.segment_slide({"image": tmp_path / "a.svs", "name": "../victim"}, None)
    assert victim.read_text() == "of someone else"

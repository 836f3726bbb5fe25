"""Datalists from folders: pairs of slides and annotations, and sections of slides."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from common.data import SlideDataset, datalist_from_folders, load_datalist, write_folds
from common.data.folders import pair_by_name, split_by_group

SHARES = {"training": 0.6, "validation": 0.2, "testing": 0.2}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_slides_meet_their_annotations_by_name(tmp_path):
    slides = touch(
        tmp_path / "slides", "a.svs", "b.ndpi", "sub/c.tif", "d.svs", "f.ome.tif", ".hidden.svs", "notes.txt"
    )
    labels = touch(tmp_path / "labels", "a.geojson", "b.ndpi.geojson", "sub/c_labels.png", "e.xml", "f.geojson")
    found = pair_by_name(slides, labels)
    assert {k.name: v.name for k, v in found.pairs.items()} == {
        "a.svs": "a.geojson",
        "b.ndpi": "b.ndpi.geojson",
        "c.tif": "c_labels.png",
        "f.ome.tif": "f.geojson",
    }
    assert [p.name for p in found.slides_alone] == ["d.svs"]
    assert [p.name for p in found.annotations_alone] == ["e.xml"]


def test_slides_of_one_name_in_two_subfolders_keep_to_their_own(tmp_path):
    slides = touch(tmp_path / "slides", "he/a.svs", "ihc/a.svs")
    labels = touch(tmp_path / "labels", "he/a.geojson", "ihc/a.geojson")
    assert {k.parent.name: v.parent.name for k, v in pair_by_name(slides, labels).pairs.items()} == {
        "he": "he",
        "ihc": "ihc",
    }


def test_one_folder_for_both(tmp_path):
    folder = touch(tmp_path, "a.tif", "a_labels.tif", "b.png", "b.geojson")
    found = pair_by_name(folder, folder)
    assert {k.name: v.name for k, v in found.pairs.items()} == {"a.tif": "a_labels.tif", "b.png": "b.geojson"}
    assert not found.slides_alone
    assert not found.annotations_alone


def test_two_annotations_of_a_slide_are_an_error(tmp_path):
    slides, labels = touch(tmp_path / "s", "a.svs"), touch(tmp_path / "l", "a.geojson", "a.xml")
    with pytest.raises(ValueError, match=r"a\.svs: several annotations .*a\.geojson.*a\.xml"):
        pair_by_name(slides, labels)


@pytest.mark.parametrize(
    ("slide", "annotation"),
    [
        ("Case1.SVS", "case1.GeoJSON"),
        ("a.ome.tif", "a.geojson"),
        ("a.ome.tif", "a.ome.tif.geojson"),
        ("a.ome.tif", "A.OME.geojson"),
        ("a.svs", "a.svs.geojson"),
        ("a.svs", "a.SVS_mask.png"),
        ("a.svs", "a_labels.ome.tif"),
        ("slide.scn", "slide.scn - Series 1.geojson"),
        ("slide.scn", "slide.scn - Series 0.geojson"),
        ("slide.scn", "slide - Series 1.geojson"),
        ("slide.scn", "Slide.scn - series 1_annotations.json"),
        ("Gewebe_\u00e4.svs", "gewebe_a\u0308.geojson"),
    ],
)
def test_names_that_pair(tmp_path, slide, annotation):
    found = pair_by_name(touch(tmp_path / "2023", slide), touch(tmp_path / "l", annotation))
    assert {k.name: v.name for k, v in found.pairs.items()} == {slide: annotation}
    assert found.left_over() == []


@pytest.mark.parametrize(
    ("slide", "annotation"),
    [
        ("a.ndpi", "a.ndpi.qpdata"),
        ("a.svs", "a.ndpi.geojson"),
        ("a.scn", "a.scn - Series 2.geojson"),
        ("a.svs", "ab.xml"),
    ],
)
def test_names_that_do_not_pair(tmp_path, slide, annotation):
    assert not pair_by_name(touch(tmp_path / "s", slide), touch(tmp_path / "l", annotation)).pairs


def test_an_annotation_goes_with_the_slide_whose_name_it_fits_best(tmp_path):
    slides = touch(tmp_path / "s", "a.svs", "a_mask.svs", "b.svs", "b.ndpi", "c.svs", "c.ndpi")
    labels = touch(tmp_path / "l", "a_mask.geojson", "b.geojson", "b.ndpi.geojson", "c.ndpi.geojson")
    found = pair_by_name(slides, labels)
    assert {k.name: v.name for k, v in found.pairs.items()} == {
        "a_mask.svs": "a_mask.geojson",
        "b.svs": "b.geojson",
        "b.ndpi": "b.ndpi.geojson",
        "c.ndpi": "c.ndpi.geojson",
    }
    assert sorted(path.name for path in found.slides_alone) == ["a.svs", "c.svs"]


@pytest.mark.parametrize("annotation", ["case1.geojson", "CASE1.geojson"])
def test_slides_that_differ_in_case_and_fit_one_annotation_are_refused(tmp_path, annotation):
    slides, labels = touch(tmp_path / "s", "Case1.svs", "case1.svs"), touch(tmp_path / "l", annotation)
    with pytest.raises(
        ValueError, match=r"(?i)case1\.geojson fits .*Case1\.svs and .*case1\.svs, whose names differ only in"
    ):
        pair_by_name(slides, labels)


def test_slides_that_differ_in_case_keep_to_their_own_annotations(tmp_path):
    slides = touch(tmp_path / "s", "Case1.svs", "case1.svs")
    found = pair_by_name(slides, touch(tmp_path / "l", "Case1.geojson", "case1.geojson"))
    assert {k.stem: v.stem for k, v in found.pairs.items()} == {"Case1": "Case1", "case1": "case1"}


def test_an_annotation_that_fits_two_slides_is_an_error_that_names_both(tmp_path):
    slides, labels = touch(tmp_path / "s", "he/a.svs", "ihc/a.svs"), touch(tmp_path / "l", "a.geojson")
    with pytest.raises(ValueError, match=r"a\.geojson fits .*he/a\.svs and .*ihc/a\.svs\. Name it after one of them"):
        pair_by_name(slides, labels)
    labels = touch(tmp_path / "own", "he/a.geojson")
    found = pair_by_name(slides, labels)
    assert [path.parent.name for path in found.pairs] == ["he"]
    assert [path.parent.name for path in found.slides_alone] == ["ihc"]


def test_what_is_left_over_is_listed_to_twenty_names(tmp_path):
    slides = touch(tmp_path / "s", "z.svs", *(f"a{number:02d}.svs" for number in range(23)))
    found = pair_by_name(slides, touch(tmp_path / "l", "z.xml", "y.xml"))
    alone, unused = found.left_over()
    assert alone.startswith("left out, 23 slides without an annotation: a00.svs, a01.svs, ")
    assert alone.endswith("a19.svs and 3 more")
    assert unused == "left out, 1 annotation without a slide: y.xml"
    assert len(found.slides_alone) == 23


def test_if_nothing_pairs_the_error_shows_what_would(tmp_path):
    slides, labels = touch(tmp_path / "s", "x.svs", "case_7.ome.tif"), touch(tmp_path / "l", "q.xml", "case-7.geojson")
    with pytest.raises(ValueError, match=r"example case_7\.ome\.tif and case-7\.geojson: case_7\.geojson would fit"):
        datalist_from_folders(slides, labels, tmp_path / "d.json")
    labels = touch(tmp_path / "project", "data/1/data.qpdata")
    with pytest.raises(ValueError, match=r"no annotation in it .*QuPath's \.qpdata is not read: export GeoJSON"):
        datalist_from_folders(slides, labels, tmp_path / "d.json")


def test_a_class_map_goes_into_every_entry(tmp_path, scheme):
    """Fire reads null as a word and None as nothing."""
    slides = touch(tmp_path / "s", *(f"{number}.svs" for number in range(5)))
    labels = touch(tmp_path / "l", *(f"{number}.geojson" for number in range(5)))
    given = {"Tumor": "carcinoma", "Other": "null", "Ignore*": None, 7: "stroma"}
    path, _, _ = datalist_from_folders(slides, labels, tmp_path / "d.json", class_map=given, scheme=scheme)
    content = json.loads(path.read_text())
    maps = [entry["class_map"] for section in content.values() for entry in section]
    assert maps == [{"Tumor": "carcinoma", "Other": None, "Ignore*": None, "7": "stroma"}] * 5


def test_a_class_map_to_no_class_is_refused_before_anything_is_written(tmp_path, scheme):
    slides, labels = touch(tmp_path / "s", "a.svs"), touch(tmp_path / "l", "a.geojson")
    arguments = {"scheme": scheme, "owner": "mine", "validation": 0, "testing": 0}
    with pytest.raises(ValueError, match="maps 'T' to 'stromal', which is not a class of mine. Did you mean 'stroma'"):
        datalist_from_folders(slides, labels, tmp_path / "d.json", class_map={"T": "stromal"}, **arguments)
    with pytest.raises(ValueError, match="class_map must map names"):
        datalist_from_folders(slides, labels, tmp_path / "d.json", class_map="Tumor: carcinoma", **arguments)
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name,stain\na,HE\n", 'a column "slide" is needed'),
        ("slide,label\na,x.xml\n", "a table cannot give 'label'"),
        ("slide,stain\na,HE\nA,PAS\n", "A is there twice"),
        ("slide,mpp\na,0.25 um\n", "a: mpp: '0.25 um' is not a number"),
        ("slide,stain\nb,HE\n", r"no row for a\.svs in its column slide"),
        (None, "the table cannot be read"),
    ],
)
def test_tables_that_do_not_fit_say_why(tmp_path, content, says):
    slides, labels = touch(tmp_path / "s", "a.svs"), touch(tmp_path / "l", "a.geojson")
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_text(content)
    with pytest.raises(ValueError, match=says):
        datalist_from_folders(slides, labels, tmp_path / "d.json", 0, 0, table=table)
    assert not (tmp_path / "d.json").exists()


def test_tables_with_semicolons_name_slides_in_any_case(tmp_path):
    slides, labels = touch(tmp_path / "s", "Case1.ome.tif"), touch(tmp_path / "l", "case1.geojson")
    table = tmp_path / "table.csv"
    table.write_text("\ufeffslide;mpp;stain\nCASE1;0.25;H&E, old\n;;\n", encoding="utf-8")
    path, _, _ = datalist_from_folders(slides, labels, tmp_path / "d.json", 0, 0, table=table)
    (entry,) = json.loads(path.read_text())["training"]
    assert (entry["mpp"], entry["stain"]) == (0.25, "H&E, old")


def test_groups_are_never_divided_and_shares_are_met():
    groups = [f"p{i // 3}" for i in range(60)]
    found = split_by_group(groups, SHARES, seed=3)
    assert Counter(found) == {"training": 36, "validation": 12, "testing": 12}
    for group in set(groups):
        assert len({section for name, section in zip(groups, found, strict=True) if name == group}) == 1
    assert found == split_by_group(groups, SHARES, seed=3)
    assert found != split_by_group(groups, SHARES, seed=4)


def test_every_section_gets_something_of_few_slides():
    assert Counter(split_by_group(["a", "b", "c"], SHARES)) == {"training": 1, "validation": 1, "testing": 1}
    found = split_by_group(["a"] * 8 + ["b", "c", "d"], SHARES, seed=1)
    assert set(found) == {"training", "validation", "testing"}
    assert set(split_by_group(["a", "b"], {**SHARES, "testing": 0.0})) == {"training", "validation"}
    with pytest.raises(ValueError, match="2 groups cannot be split into training, validation, testing"):
        split_by_group(["a", "b"], SHARES)
    with pytest.raises(ValueError, match="less than 1"):
        split_by_group(["a", "b", "c"], {"training": 0, "validation": 0.5, "testing": 0.5})


def test_patients_columns_and_relative_paths(tmp_path):
    names = [f"TCGA-{i // 2:02d}-{i}" for i in range(12)]
    slides = touch(tmp_path / "in/slides", *(f"{name}.svs" for name in names))
    labels = touch(tmp_path / "in/labels", *(f"{name}.geojson" for name in names))
    table = tmp_path / "table.csv"
    table.write_text("slide,scanner\n" + "\n".join(f"{name},{'AB'[i % 2]}" for i, name in enumerate(names)))
    out = tmp_path / "lists" / "d.json"
    path, _, counts = datalist_from_folders(slides, labels, out, patient=r"(TCGA-\d+)", table=table)
    assert sum(counts.values()) == 12
    content = json.loads(path.read_text())
    patients = {section: {entry["patient"] for entry in content[section]} for section in content}
    assert not patients["training"] & (patients["validation"] | patients["testing"])
    assert content["training"][0]["image"].startswith("../in/slides/TCGA-")
    assert {entry["scanner"] for entry in content["training"]} == {"A", "B"}
    assert (tmp_path / load_datalist(path, "training")[0]["image"]).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patient": "(TCGA)"}, r"a\.svs: .*finds no patient"),
        ({"patient": "a"}, "not a regular expression with a group"),
        ({"split_by": "stain"}, "no column 'stain'"),
    ],
)
def test_what_cannot_be_split_says_why(tmp_path, arguments, says):
    slides, labels = touch(tmp_path / "s", "a.svs"), touch(tmp_path / "l", "a.geojson")
    with pytest.raises(ValueError, match=says):
        datalist_from_folders(slides, labels, tmp_path / "d.json", **arguments)
    assert not (tmp_path / "d.json").exists()


def test_folds_test_every_region_once_and_train_on_no_case_that_they_test(tmp_path):
    """Regions of a slide and of a case stay together; every fold tests both diagnoses."""
    entries = [
        {
            "image": f"slide_{i // 2}.tif",
            "regions": [[0, 100 * i, 50, 50]],
            "case": f"c{i // 4}",
            "diagnosis": "ab"[i // 4 % 2],
        }
        for i in range(48)
    ]
    sections = {"training": entries[:20], "validation": entries[20:30], "testing": entries[30:]}
    (tmp_path / "datalist.json").write_text(json.dumps(sections))
    paths = write_folds(tmp_path / "datalist.json", tmp_path / "folds", 3, stratify_by="diagnosis")
    tested = []
    for path in paths:
        dealt = json.loads(path.read_text())
        cases = {name: {entry["case"] for entry in dealt[name]} for name in dealt}
        assert sum(len(found) for found in cases.values()) == len(set().union(*cases.values())) == 12
        assert sum(len(dealt[name]) for name in dealt) == 48
        assert sorted(e["diagnosis"] for e in dealt["testing"]).count("a") == 8
        assert dealt["testing"][0]["image"].startswith("../slide_")
        tested += [entry["regions"][0][1] for entry in dealt["testing"]]
    assert sorted(tested) == [100 * i for i in range(48)]
    with pytest.raises(ValueError, match="12 values of 'case' cannot be divided into 13 folds"):
        write_folds(tmp_path / "datalist.json", tmp_path / "folds", 13)
    with pytest.raises(ValueError, match=r"slide_0\.tif: its datalist entry has no column 'patient'"):
        write_folds(tmp_path / "datalist.json", tmp_path / "folds", 3, by="patient")


def test_regions_of_one_slide_are_segmented_together(tmp_path):
    entries = [
        {"image": "a.tif", "regions": [[0, 0, 9, 9]]},
        {"image": "b.tif"},
        {"image": "a.tif", "regions": [[9, 9, 2, 2]]},
    ]
    (tmp_path / "datalist.json").write_text(json.dumps({"testing": entries}))
    items = SlideDataset(tmp_path / "datalist.json").items
    assert [item["name"] for item in items] == ["a", "b"]
    assert items[0]["regions"] == [[0, 0, 9, 9], [9, 9, 2, 2]]
    entries.append({"image": "a.tif"})
    (tmp_path / "datalist.json").write_text(json.dumps({"testing": entries}))
    assert "regions" not in SlideDataset(tmp_path / "datalist.json").items[0]

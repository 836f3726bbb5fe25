"""The meanings of annotators' class names."""

from __future__ import annotations

import ast
import json
import shlex
from collections import Counter

import pytest

from common.bundle.parser import bundle_settings
from common.data.class_map import (
    NamesInUse,
    as_option,
    can_guess,
    guessed_class,
    names_in_use,
    plain,
    unknown_names_remark,
    unused_names_remark,
)

QUPATH = ("Tumor", "Stroma", "Immune cells", "Necrosis", "Other", "Region*", "Ignore*", "Positive", "Negative")


def scheme_of(bundle):
    return bundle_settings(bundle, ["train.yaml"], ["scheme"])["scheme"]


@pytest.mark.parametrize(
    ("bundle", "classes"),
    [
        ("dmmn", {"Tumor": "carcinoma", "Stroma": "stroma", "Necrosis": "necrotic"}),
        ("mrn", {"Tumor": "tumour", "Stroma": "normal"}),
        ("multires_encdec", {"Tumor": "malignant epithelium", "Stroma": "normal stroma", "Necrosis": "necrosis"}),
        # Whether a tumour is in situ or invasive, its name does not say.
        ("da_refinenet", {"Stroma": "normal"}),
        ("multilevel_unet", {"Tumor": "tumour", "Stroma": "normal", "Necrosis": "others", "Other": "others"}),
    ],
)
def test_qupath_s_classes_in_the_schemes_of_all_bundles(bundle, classes):
    scheme = scheme_of(bundle)
    assert {name: known for name in QUPATH if (known := guessed_class(name, scheme))} == classes
    unsure = {"Positive", "Negative"} | ({"Tumor"} if bundle == "da_refinenet" else set())
    assert {name for name in QUPATH if not can_guess(name, scheme)} == unsure


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Tumour", "carcinoma"),
        ("TUMORS", "carcinoma"),
        ("necrosis", "necrotic"),
        ("fat", "adipose"),
        ("Adipose tissue", "adipose"),
        ("benign_epithelial", "benign epithelial"),
        ("BenignEpithelial", "benign epithelial"),
        ("Benign-glands", "benign epithelial"),
        ("DCIS", "carcinoma"),
        ("Tumor: Positive", "carcinoma"),
        ("Glass", "background"),
        ("spleen", None),
    ],
)
def test_plain_variants_of_names(scheme, name, known):
    assert guessed_class(name, scheme) == known


def test_what_plain_takes_away():
    assert [plain(name) for name in ("Ignore*", "Tumour area", "Immune cells", "Region*", "necrosis", "Gläser")] == [
        "ignore",
        "tumor",
        "immune cell",
        "region",
        "necrosis",
        "gläser",
    ]


def test_the_suggestion_can_be_pasted_and_is_read_back():
    """As a shell splits it, and then as a literal in which null is a word."""
    names = {"Tumor": "carcinoma", 'it\'s "$HOME" `x` \\': None, "Größe!": "stroma"}
    option, value = shlex.split(as_option(names))
    assert option == "--class_map"
    assert ast.literal_eval(value.replace(": null", ": None")) == names


def test_the_remark_counts_slides_and_keeps_what_is_mapped(scheme):
    found = NamesInUse(unknown=Counter({"Stroma": 2, "Tumor": 3, "Immune cells": 1, "Foo": 1}))
    first, *rest = unknown_names_remark(found, scheme, "mine", {"Fat": "adipose"})
    assert first == (
        "annotations use Tumor (3 slides), Stroma (2), Foo (1), Immune cells (1), which are not classes of mine "
        "(carcinoma, benign epithelial, background, stroma, necrotic, adipose). Training refuses them: give the "
        "command again with, for example, --class_map "
        "\"{'Fat': 'adipose', 'Tumor': 'carcinoma', 'Stroma': 'stroma', 'Foo': null, 'Immune cells': null}\""
    )
    assert rest == [
        "null leaves what is drawn in that class unlabelled, also over what was drawn before it",
        "? Foo: no class could be guessed; replace its null if it stands for one",
    ]
    assert unknown_names_remark(NamesInUse(), scheme, "mine") == []


def geojson(path, *names):
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name}},
        }
        for name in names
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {"image": f"{path.stem}.svs", "label": str(path)}


def test_names_are_counted_by_slide_and_known_by_scheme_or_map(tmp_path, scheme):
    entries = [
        geojson(tmp_path / "a.geojson", "Tumor", "Tumor", "stroma"),
        geojson(tmp_path / "b.geojson", "Tumor", "Fett") | {"class_map": {"Fett": "adipose"}},
        {"image": "c.svs", "label": str(tmp_path / "labels.png")},
        {"image": "d.svs", "unannotated": {"class": "stroma", "within": "tissue"}},
    ]
    (tmp_path / "broken.xml").write_text("<a")
    found = names_in_use([*entries, {"image": "e.svs", "label": str(tmp_path / "broken.xml")}], scheme)
    assert found.unknown == {"Tumor": 2}
    assert found.slides == {"Tumor": 2, "stroma": 1, "Fett": 1}
    assert [text.split(": ")[1].split(" (")[0] for text in found.unreadable] == ["not XML"]
    (line,) = unused_names_remark(found, {"Tumour": None, "Fett": "adipose"})
    assert (
        line == "class_map names 'Tumour', which no annotation uses: they use Fett, Tumor, stroma. It changes nothing"
    )

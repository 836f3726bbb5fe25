"""Slides that all bundles are tried on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.phantom import BREAST, write_phantoms


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms of 2,048 pixels a side, their datalist, and others of them: ``two_classes.json``, which calls
    stroma tumour and everything else normal; ``biopsies.json`` with the classes of biopsies, ``grades.json`` with
    those of BACH, ``tissues.json`` with those of the multi-level U-Net."""
    folder = write_phantoms(tmp_path_factory.mktemp("phantoms"), 1, 1, 1, size=2048, seed=40).parent
    two = {c.name: "tumour" if c.name == "stroma" else "normal" for c in BREAST.scheme.classes}
    eight = {
        "carcinoma": "malignant epithelium",
        "benign epithelial": "benign epithelium",
        "background": "background",
        "stroma": "normal stroma",
        "necrotic": "necrosis",
        "adipose": "background",
    }
    grades = {**dict.fromkeys(two, "normal"), "stroma": "benign", "necrotic": "in situ", "carcinoma": "invasive"}
    sections = json.loads((folder / "datalist.json").read_text())
    tissues = {
        **dict.fromkeys(two, "normal"),
        "necrotic": "others",
        "benign epithelial": "others",
        "carcinoma": "tumour",
    }
    made = {"two_classes": two, "biopsies": eight, "grades": grades, "tissues": tissues}
    for name, classes in made.items():
        values = {str(c.label): classes[c.name] for c in BREAST.scheme.classes}
        other = {s: [{**e, "class_map": classes, "label_values": values} for e in sections[s]] for s in sections}
        (folder / f"{name}.json").write_text(json.dumps(other))
    return folder

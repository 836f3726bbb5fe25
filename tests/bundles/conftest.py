"""Slides that all bundles are tried on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.phantom import BREAST, write_phantoms


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms of 2,048 pixels a side and their datalist; and ``two_classes.json``, which calls stroma tumour and
    everything else normal."""
    folder = write_phantoms(tmp_path_factory.mktemp("phantoms"), 1, 1, 1, size=2048, seed=40).parent
    classes = {c.name: "tumour" if c.name == "stroma" else "normal" for c in BREAST.scheme.classes}
    labels = {str(c.label): classes[c.name] for c in BREAST.scheme.classes}
    sections = json.loads((folder / "datalist.json").read_text())
    two = {s: [{**entry, "class_map": classes, "label_values": labels} for entry in sections[s]] for s in sections}
    (folder / "two_classes.json").write_text(json.dumps(two))
    return folder

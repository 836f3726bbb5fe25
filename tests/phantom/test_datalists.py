"""Every datalist of phantoms says that its slides are synthetic, and what they are stained with."""

from __future__ import annotations

import json
from pathlib import Path

from common.phantom import write_bach, write_breast_biopsies, write_camelyon16, write_multi_stain, write_phantoms


def entries(path: Path) -> list[dict]:
    found = [entry for section in json.loads(path.read_text()).values() for entry in section]
    assert found
    return found


def test_every_entry_says_so(tmp_path):
    paths = [
        write_phantoms(tmp_path / "plain", 1, 0, 1, size=64, mpp=8.0),
        write_breast_biopsies(tmp_path / "biopsies", 1, 1, 1, size=64, mpp=4.0),
        write_camelyon16(tmp_path / "camelyon", 0, 0, 2, size=64, mpp=8.0, labels=True) / "look_alikes.json",
        write_bach(tmp_path / "bach", slides=1, size=64, mpp=32.0, far=True) / "far.json",
    ]
    for path in paths:
        assert all(entry["synthetic"] is True and entry["stain"] == "H&E" for entry in entries(path)), path
    stained = entries(write_multi_stain(tmp_path / "stains", 4, 0, 0, 6, size=32, mpp=4.0))
    assert all(entry["synthetic"] is True for entry in stained)
    assert {entry["stain"] for entry in stained} == {"ER", "PR", "HER2", "Ki67", "H&E"}

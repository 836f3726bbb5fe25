"""FROC of maps with lesions at known places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.classes import ClassScheme
from common.inference import Canvas
from common.lesions import lesion_froc
from common.outputs.ome_zarr import read_probability, write_probabilities
from common.phantom import LYMPH_NODE

MPP, SIDE = 8.0, 320
LESIONS = [(60, 60), (60, 240), (240, 60)]


def disc(places: list[tuple[int, int]], radius: int, height: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    found = np.zeros((SIDE, SIDE))
    for row, column in places:
        found = np.maximum(found, height * (np.hypot(y - row, x - column) <= radius))
    return found


def write_case(folder: Path, probability: np.ndarray, scheme: ClassScheme = LYMPH_NODE.scheme) -> Path:
    """A slide of three lesions of 400 µm and what a network says of it; gives the datalist."""
    Image.fromarray(np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray((1 + disc(LESIONS, 25)).astype(np.uint8)).save(folder / "a_labels.png")
    canvas = Canvas(folder / "canvas.zarr", (2, SIDE, SIDE), 64)
    values = np.stack([1 - probability, probability])
    for top in range(0, SIDE, 64):
        for left in range(0, SIDE, 64):
            canvas.write(top, left, np.round(255 * values[:, top : top + 64, left : left + 64]).astype(np.uint8))
    write_probabilities(folder / "run" / "a" / "probabilities.zarr", canvas, MPP, scheme)
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"testing": [{"image": "a.png", "label": "a_labels.png", "mpp": MPP}]}))
    return datalist


def froc(folder: Path, datalist: Path, **options: object) -> dict:
    lesion_froc({"run": folder / "run"}, datalist, LYMPH_NODE.scheme, folder / "out", **options)
    return json.loads((folder / "out" / "froc.json").read_text())["run"]


def test_two_of_three_lesions_found_and_one_false_alarm_between_them(tmp_path):
    """In order of probability: a lesion, a false alarm, a lesion. So 1/3 without false positives, 2/3 with one."""
    found = disc([LESIONS[0]], 10, 1.0) + disc([(240, 240)], 10, 0.9) + disc([LESIONS[1]], 10, 0.8)
    curve = froc(tmp_path, write_case(tmp_path, found))
    assert (curve["lesions"], curve["slides"]) == (3, 1)
    figures = curve["figures"]
    assert figures["sensitivity at 1"] == pytest.approx(2 / 3)
    assert figures["sensitivity at 8"] == pytest.approx(2 / 3)
    assert figures["sensitivity at 0.25"] == pytest.approx(1 / 3)
    sensitivities = [value for name, value in figures.items() if name != "FROC score"]
    assert figures["FROC score"] == pytest.approx(np.mean(sensitivities))


def test_lesions_too_small_to_count_are_none_to_be_found(tmp_path):
    datalist = write_case(tmp_path, disc(LESIONS, 10))
    with pytest.raises(ValueError, match="no lesion to be found"):
        froc(tmp_path, datalist, smallest=600)


def test_probabilities_are_read_at_the_level_that_is_asked_for(tmp_path):
    write_case(tmp_path, disc(LESIONS, 25))
    path = tmp_path / "run" / "a" / "probabilities.zarr"
    values, mpp = read_probability(path, "tumour", 1.0)
    assert (mpp, values.shape) == (8.0, (SIDE, SIDE))
    assert np.array_equal(values, disc(LESIONS, 25))
    with pytest.raises(ValueError, match="probabilities of normal, tumour, not of stroma"):
        read_probability(path, "stroma", 1.0)
    with pytest.raises(ValueError, match="no class probabilities"):
        read_probability(tmp_path / "run", "tumour", 1.0)

"""FROC of maps with lesions at known places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.annotations import read_annotations
from common.classes import ClassScheme
from common.evaluation.comparison import write_probability_panels
from common.evaluation.froc import lesion_froc
from common.maps import MapStore
from common.outputs.ome_zarr import read_probability, write_probabilities
from common.phantom import LYMPH_NODE
from common.slides import open_slide

MPP, SHAPE = 8.0, (256, 384)
LESIONS = [(60, 60), (50, 240), (200, 120)]


def disc(places: list[tuple[int, int]], radius: int, height: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = np.zeros(SHAPE)
    for row, column in places:
        found = np.maximum(found, height * (np.hypot(y - row, x - column) <= radius))
    return found


def write_case(folder: Path, probability: np.ndarray, scheme: ClassScheme = LYMPH_NODE.scheme) -> Path:
    """A slide of three lesions of 400 µm and what a network says of it; gives the datalist."""
    Image.fromarray(np.full((*SHAPE, 3), 200, dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray((1 + disc(LESIONS, 25)).astype(np.uint8)).save(folder / "a_labels.png")
    canvas = MapStore(folder / "canvas.zarr", (2, *SHAPE), 64)
    values = np.stack([1 - probability, probability])
    for top in range(0, SHAPE[0], 64):
        for left in range(0, SHAPE[1], 64):
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
    found = disc([LESIONS[0]], 10, 1.0) + disc([(200, 300)], 10, 0.9) + disc([LESIONS[1]], 10, 0.8)
    curve = froc(tmp_path, write_case(tmp_path, found))
    assert (curve["lesions"], curve["slides"]) == (3, 1)
    figures = curve["figures"]
    assert figures["sensitivity at 1"] == pytest.approx(2 / 3)
    assert figures["sensitivity at 8"] == pytest.approx(2 / 3)
    assert figures["sensitivity at 0.25"] == pytest.approx(1 / 3)
    sensitivities = [value for name, value in figures.items() if name != "FROC score"]
    assert figures["FROC score"] == pytest.approx(np.mean(sensitivities))


@pytest.mark.parametrize("last", [1.0, 0.8])
def test_a_network_that_finds_all_lesions_and_nothing_else_scores_one(tmp_path, last):
    found = disc(LESIONS[:2], 10) + disc(LESIONS[2:], 10, last)
    assert set(froc(tmp_path, write_case(tmp_path, found))["figures"].values()) == {1.0}


def test_lesions_too_small_to_count_are_none_to_be_found(tmp_path):
    datalist = write_case(tmp_path, disc(LESIONS, 10))
    with pytest.raises(ValueError, match="no lesion to be found"):
        froc(tmp_path, datalist, itc_diameter=600)


LEVELS = ((1.0, 2.0, (1536, 64)), (3.9, 2.0, (1536, 64)), (4.0, 4.0, (768, 32)), (50.0, 4.0, (768, 32)))


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path):
    """1,536 pixels of 2 µm become levels of 2 and 4 µm: means of four pixels."""
    rows = np.arange(1536) % 256
    canvas = MapStore(tmp_path / "canvas.zarr", (2, 1536, 64), 1536)
    canvas.write(0, 0, np.repeat(np.stack([rows, 255 - rows])[..., None], 64, axis=2).astype(np.uint8))
    write_probabilities(tmp_path / "p.zarr", canvas, 2.0, LYMPH_NODE.scheme)
    for asked, given, shape in LEVELS:
        values, mpp = read_probability(tmp_path / "p.zarr", "normal", asked)
        assert (mpp, values.shape) == (given, shape)
        # The second row: of the finer level 1, of the coarser one the mean of 2 and 3.
        assert values[1, 0] == pytest.approx({2.0: 1, 4.0: 3}[mpp] / 255)


def test_panels_show_truth_and_probability_where_they_are(tmp_path):
    write_case(tmp_path, disc(LESIONS[:1], 25))
    scheme = LYMPH_NODE.scheme
    with open_slide(tmp_path / "a.png", mpp=MPP) as slide:
        truth = read_annotations(tmp_path / "a_labels.png", scheme)
        maps = {"network": tmp_path / "run" / "a" / "probabilities.zarr"}
        write_probability_panels(tmp_path / "panels.png", slide, truth, maps, scheme)
    picture = np.asarray(Image.open(tmp_path / "panels.png").convert("RGB")).astype(int)
    # Three pictures in a row with 8 pixels between, below a strip with their titles.
    strip, step = int(1.8 * max(12, SHAPE[1] // 28)), SHAPE[1] + 8
    shown = [[picture[strip + row, panel * step + column].sum() for row, column in LESIONS] for panel in (1, 2)]
    assert (np.array(shown) > 600).tolist() == [[True, True, True], [True, False, False]]


def test_probabilities_of_a_class_that_there_is_are_read(tmp_path):
    write_case(tmp_path, disc(LESIONS, 25))
    path = tmp_path / "run" / "a" / "probabilities.zarr"
    values, mpp = read_probability(path, "tumour", 1.0)
    assert (mpp, values.shape) == (8.0, SHAPE)
    assert np.array_equal(values, disc(LESIONS, 25))
    with pytest.raises(ValueError, match="probabilities of normal, tumour, not of stroma"):
        read_probability(path, "stroma", 1.0)
    with pytest.raises(ValueError, match="no class probabilities"):
        read_probability(tmp_path / "run", "tumour", 1.0)

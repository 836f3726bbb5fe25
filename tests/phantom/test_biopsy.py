"""Regions of biopsies: what a diagnosis is made of, and cores that lie in their structures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.phantom import BIOPSY_CLASSES, DIAGNOSES, biopsy_recipe
from common.phantom.layout import Layout
from common.phantom.paint import Painter

SIDE, MPP = 1400.0, 4.0


def labels_of(diagnosis: str, seed: int) -> np.ndarray:
    """Label map at 4 µm/px."""
    painter = Painter(Layout(biopsy_recipe(diagnosis, seed), seed, SIDE, SIDE), MPP)
    return painter.labels(0, 0, int(SIDE / MPP), int(SIDE / MPP))


@pytest.fixture(scope="module")
def maps() -> dict[str, list[np.ndarray]]:
    return {
        diagnosis: [labels_of(diagnosis, 10 * i + seed) for seed in (1, 2)] for i, diagnosis in enumerate(DIAGNOSES)
    }


def shares(maps: list[np.ndarray], name: str) -> float:
    return float(np.mean([(labels == BIOPSY_CLASSES.by_name(name).label).mean() for labels in maps]))


@pytest.mark.all
def test_diagnoses_differ_by_their_tissues(maps):
    found = {d: {name: shares(maps[d], name) for name in BIOPSY_CLASSES.names} for d in DIAGNOSES}
    for diagnosis in ("benign", "atypia"):
        assert found[diagnosis]["malignant epithelium"] == found[diagnosis]["necrosis"] == 0
        assert found[diagnosis]["benign epithelium"] > 0.01
    for diagnosis in ("DCIS", "invasive"):
        assert found[diagnosis]["malignant epithelium"] > 0.01
    assert [diagnosis for diagnosis in DIAGNOSES if found[diagnosis]["desmoplastic stroma"] > 0] == ["invasive"]
    assert found["DCIS"]["necrosis"] > 0
    assert all(found[diagnosis]["blood"] > 0 for diagnosis in DIAGNOSES)
    with pytest.raises(ValueError, match="diagnosis must be one of benign, atypia, DCIS, invasive, not 'normal'"):
        biopsy_recipe("normal", 0)


def test_secretion_and_necrosis_lie_in_epithelium(maps):
    """A core is surrounded by the epithelium whose middle it fills."""
    for core, around in (("secretion", "benign epithelium"), ("necrosis", "malignant epithelium")):
        seen = 0
        for labels in (labels for found in maps.values() for labels in found):
            inside = labels == BIOPSY_CLASSES.by_name(core).label
            rim = ndimage.binary_dilation(inside, iterations=1) & ~inside
            seen += int(rim.sum())
            assert (labels[rim] == BIOPSY_CLASSES.by_name(around).label).all()
        assert seen > 0

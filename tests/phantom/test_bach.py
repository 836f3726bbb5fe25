"""The miniature of BACH: regions alike but for what lies far apart in them."""

from __future__ import annotations

import numpy as np
import pytest

from common.annotations import read_annotations
from common.data import datalist_from_bach
from common.phantom import BACH, BACH_CLASSES, write_bach
from common.phantom.bach import FAR_UM, FarPainter
from common.phantom.layout import Layout
from common.phantom.paint import Painter
from common.slides import open_slide

SIDE, MPP = 16384.0, 32.0
PIXELS = int(SIDE / MPP)
# The paper's slices and tiles in µm.
SLICE, TILE = 467.0, 2335.0


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(BACH, 3, SIDE, SIDE)


@pytest.fixture(scope="module")
def maps(layout) -> dict[str, np.ndarray]:
    """At 32 µm/px: all labels, those told from far only, and the kind of texture."""
    far, every = FarPainter(layout, MPP), Painter(layout, MPP)
    place = (0, 0, PIXELS, PIXELS)
    return {
        "far": far.labels(*place, MPP),
        "all": every.labels(*place, MPP),
        "kinds": every._kinds(*every._coordinates(*place, MPP)),
    }


def test_there_are_regions_of_several_millimetres_of_every_class(maps):
    for label in (1, 2, 3, 4):
        rows, columns = np.nonzero((maps["all"] == label) & (maps["kinds"] >= 0))
        assert len(rows) * MPP**2 > 30e6
        assert min(np.ptp(rows), np.ptp(columns)) * MPP > 5000


def test_regions_have_one_texture_and_what_tells_them_lies_far_apart(layout):
    assert len({ground.texture for ground in BACH.grounds}) == 1
    assert len({(p.texture, p.core.texture if p.core else None) for p in BACH.populations}) == 4
    outlines = [structure.outline for structure in layout.structures]
    assert len(outlines) > 40
    gaps = [
        np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=2)).min()
        for number, one in enumerate(outlines)
        for other in outlines[:number]
    ]
    assert min(gaps) > 1290


def test_what_is_told_from_far_sees_nothing_within_one_and_a_half_slices(layout, maps):
    far = maps["far"]
    assert np.array_equal(far[far > 0], maps["all"][far > 0])
    assert all((far == label).mean() > 0.04 for label in (1, 2, 3, 4))
    points = np.concatenate([structure.outline for structure in layout.structures])
    places = (np.argwhere(far > 0)[::50] + 0.5) * MPP
    offsets = np.abs(places[:, None] - points[None])
    nearest = np.hypot(*np.moveaxis(offsets, -1, 0)).min()
    assert nearest > 0.999 * FAR_UM
    # No slice with such a pixel in it reaches so far, from corner to corner, nor one of 1.5 times its side around it.
    assert nearest > 2**0.5 * SLICE
    assert offsets.max(axis=2).min() > 0.75 * SLICE
    assert (maps["kinds"][far > 0] < len(BACH.grounds)).all()
    assert (maps["kinds"][far > 0] >= 0).all()


def test_a_tile_mostly_shows_what_tells_its_region(layout):
    centres = np.array([(s.y, s.x) for s in layout.structures])
    starts = np.arange(1500, SIDE - 1500 - TILE, 500)
    seen = [
        ((centres >= (top, left)).all(axis=1) & (centres < (top + TILE, left + TILE)).all(axis=1)).any()
        for top in starts
        for left in starts
    ]
    assert np.mean(seen) > 0.85


def test_slides_lie_where_bach_s_lie_and_are_annotated_as_painted(tmp_path):
    root = write_bach(tmp_path, slides=2, size=400, mpp=8.0, seed=71, far=True)
    assert (root / "WSI" / "A02.svs").exists()
    assert (root / "labels" / "A01_far.tif").exists()
    assert not (root / "labels" / "A02_far.tif").exists()
    found = datalist_from_bach(root, root / "datalist.json", a01="testing")
    assert found.sections == {"training": ["A02"], "validation": [], "testing": ["A01"]}
    seen: set[int] = set()
    for number, name in enumerate(("A01", "A02")):
        painter = Painter(Layout(BACH, 71 + number, 3200, 3200), 8.0)
        painted = painter.labels(0, 0, 400, 400)
        with open_slide(root / "WSI" / f"{name}.svs") as slide:
            assert slide.mpp == pytest.approx(8.0)
            classes = {"Benign": "benign", "Carcinoma in situ": "in situ", "Carcinoma invasive": "invasive"}
            annotation = read_annotations(root / "WSI" / f"{name}.xml", BACH_CLASSES, classes)
            drawn = annotation.label_map(slide, (200, 200), 8.0, 400)
        assert (np.where(drawn == 0, 1, drawn) == painted).mean() > 0.98
        seen.update(np.unique(painted).tolist())
    assert len(seen) > 1

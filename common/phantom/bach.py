"""Write a miniature of BACH's whole slides: four kinds of regions, in the challenge's own folders and formats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import shapely

from ..annotations import AnnotatedRegion, write_imagescope_xml
from ..classes import UNLABELLED, ClassScheme
from ..files import write_json
from ..outputs.polygons import label_polygons
from .layout import Layout
from .paint import Painter
from .recipe import EPITHELIUM, FAT, NECROSIS, STROMA, Core, Ground, Nuclei, Population, Recipe, Texture
from .slide import paint_labels, paint_slide

BACH_CLASSES = ClassScheme(
    classes=[
        {"name": "normal", "color": (150, 150, 150), "label": 1, "channel": 0},
        {"name": "benign", "color": (220, 40, 40), "label": 2, "channel": 1},
        {"name": "in situ", "color": (60, 170, 80), "label": 3, "channel": 2},
        {"name": "invasive", "color": (40, 80, 220), "label": 4, "channel": 3},
    ],
    skipped="normal",
    ordinal=True,
)
# Class names in the challenge's annotations.
_WRITTEN = {"benign": "Benign", "in situ": "Carcinoma in situ", "invasive": "Carcinoma invasive"}
_LYMPHOCYTES = Texture(
    counterstain=0.20,
    nuclear=0.20,
    grain=(0.05, 6.0),
    nuclei=(Nuclei(spacing=7.0, radius=2.6, elongation=1.05, darkness=1.1, share=0.9),),
)
_SECRETION = Texture(counterstain=0.22, nuclear=0.02, grain=(0.03, 9.0))
# µm from every landmark beyond which neither a slice of 467 µm around a pixel, nor one of 1.5 times that side, shows
# any landmark.
FAR_UM = 680.0


def _landmark(name: str, texture: Texture, core: Core | None = None) -> Population:
    """Return the structures that identify a kind of region, so far apart that a slice mostly shows none, and a tile of
    2.3 mm mostly one."""
    return Population(
        name, texture, name, radius=(200.0, 280.0), spacing=260.0, crowding=True, clearance=1300.0, core=core
    )


# All regions are of the same tissue in the same texture. They are identified by landmarks that lie far apart: fat in
# normal regions, cysts in benign ones, ducts full of necrosis in situ, crowds of lymphocytes in invasive ones.
BACH = Recipe(
    scheme=BACH_CLASSES,
    territories=("normal", "benign", "in situ", "invasive"),
    glass="normal",
    grounds=(
        Ground("normal", STROMA),
        *(
            Ground(name, STROMA, territory=name, level=-math.inf, clear_of=-math.inf)
            for name in ("benign", "in situ", "invasive")
        ),
    ),
    populations=(
        _landmark("normal", FAT),
        _landmark("benign", EPITHELIUM, Core("benign", _SECRETION, size=0.8)),
        _landmark("in situ", EPITHELIUM, Core("in situ", NECROSIS, size=0.8)),
        _landmark("invasive", _LYMPHOCYTES),
    ),
    annotated={},
    territory_size=8000.0,
    plain_surroundings=20.0,
)
# Slides that the paper uses neither for training nor for choosing checkpoints.
_FAR_SLIDES = ("A01", "A05")
# Pixels of the slide per pixel of their label maps.
_FAR_COARSER = 4
# µm per pixel of the map that is outlined.
_OUTLINED = 16.0


class FarPainter(Painter):
    """A painter that labels only tissue at least :data:`FAR_UM` from every landmark."""

    def labels(self, top: int, left: int, height: int, width: int, mpp: float | None = None) -> np.ndarray:
        labels = super().labels(top, left, height, width, mpp)
        places = np.meshgrid(*self._coordinates(top, left, height, width, mpp or self.mpp), indexing="ij")
        told = self.layout.distance(*places) < FAR_UM
        labels[told | (self.layout.ground(*places) < 0)] = UNLABELLED
        return labels


def write_bach(
    root: str | Path, slides: int = 10, size: int = 8192, mpp: float = 2.0, seed: int = 0, far: bool = False
) -> Path:
    """Write slides in the layout of BACH's part B: ``WSI/A01.svs``, ``WSI/A01.xml`` and so on.

    The files called ``.svs`` are plain TIFF pyramids.

    Args:
        root: folder to write to.
        slides: number of slides, at most 99.
        size: pixels per side.
        mpp: µm/px.
        seed: random seed of the first slide; each further slide has the next.
        far: also write files that the challenge does not have: label maps of A01 and A05, ``labels/<slide>_far.tif``,
            that label only tissue whose class is shown by surroundings beyond 680 µm, and ``far.json``, a datalist of
            both.

    Returns:
        ``root``.
    """
    root = Path(root)
    for number in range(1, slides + 1):
        name = f"A{number:02d}"
        layout = Layout(BACH, seed + number - 1, size * mpp, size * mpp)
        painter = Painter(layout, mpp)
        write_imagescope_xml(root / "WSI" / f"{name}.xml", _regions(painter, size), BACH_CLASSES, mpp, _WRITTEN)
        if far and name in _FAR_SLIDES:
            coarse = -(-size // _FAR_COARSER)
            paint_labels(root / "labels" / f"{name}_far.tif", FarPainter(layout, mpp * _FAR_COARSER), (coarse, coarse))
        paint_slide(root / "WSI" / f"{name}.svs", painter, (size, size))
    if far:
        entries = [
            {"image": f"WSI/{name}.svs", "label": f"labels/{name}_far.tif", "stain": "H&E", "synthetic": True}
            for name in _FAR_SLIDES
            if int(name[1:]) <= slides
        ]
        write_json(root / "far.json", {"testing": entries})
    return root


def _regions(painter: Painter, size: int) -> Iterator[AnnotatedRegion]:
    """Yield outlines of all regions except the normal ones, in level-0 pixels."""
    scale = _OUTLINED / painter.mpp
    side = math.ceil(size / scale)
    labels = painter.labels(0, 0, side, side, _OUTLINED)
    labels[labels == BACH_CLASSES.by_name("normal").label] = UNLABELLED
    for label, polygons in label_polygons(labels).items():
        for polygon in polygons:
            outline = shapely.transform(shapely.simplify(polygon, 1.0), lambda points: points * scale)
            yield AnnotatedRegion(label, outline)

"""Write a miniature of CAMELYON16: lymph nodes in the data set's own folders, with its file names and XML."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from shapely import Polygon
from shapely.affinity import scale

from ..annotations import AnnotatedRegion, write_asap_xml, write_geojson
from ..classes import ClassScheme
from ..files import atomic_write, write_json
from .layout import Layout, Structure
from .paint import Painter
from .recipe import RECIPES
from .slide import paint_labels, paint_slide

# The groups that the data set's XML files have in place of class names.
_GROUPS = ClassScheme(
    classes=[
        {"name": f"_{number}", "color": color, "label": number + 1, "channel": number}
        for number, color in enumerate([(244, 250, 88), (100, 254, 46), (255, 0, 0)])
    ]
)
_LESION, _LESION_TOO, _CUT_OUT = 1, 2, 3
# One lesion in so many is outlined too wide by this factor, and the surplus is cut out again.
_GENEROUS_EVERY, _GENEROUS = 4, 1.5


def write_camelyon16(
    root: str | Path,
    normal: int = 4,
    tumour: int = 8,
    testing: int = 4,
    size: int = 6144,
    mpp: float = 0.5,
    seed: int = 0,
    labels: bool = False,
) -> Path:
    """Write lymph nodes in the layout of CAMELYON16: ``training/{normal,tumor,lesion_annotations}`` and
    ``testing/{images,lesion_annotations,reference.csv}``.

    Args:
        root: folder to write to.
        normal, tumour: number of slides for training without and with metastases.
        testing: number of slides for testing, alternately with and without metastases.
        size: pixels per side.
        mpp: µm/px.
        seed: random seed of the first slide; each further slide has the next.
        labels: also write files that the data set does not have: full label maps, ``labels/<slide>_labels.tif``, and
            ``look_alikes.json``, a datalist of the testing slides on which only metastases and their look-alikes are
            labelled.

    Returns:
        ``root``.
    """
    root = Path(root)
    grid = [("training/normal", f"normal_{i + 1:03d}", False) for i in range(normal)]
    grid += [("training/tumor", f"tumor_{i + 1:03d}", True) for i in range(tumour)]
    grid += [("testing/images", f"test_{i + 1:03d}", i % 2 == 0) for i in range(testing)]
    look_alikes: list[dict[str, object]] = []
    for number, (folder, name, positive) in enumerate(grid):
        recipe = RECIPES["lymph_node" if positive else "normal_lymph_node"]
        painter = Painter(Layout(recipe, seed + number, size * mpp, size * mpp), mpp)
        if positive:
            path = root / folder.split("/")[0] / "lesion_annotations" / f"{name}.xml"
            write_asap_xml(path, _lesions(painter), _GROUPS)
        if labels:
            if name.startswith("test_"):
                look_alikes.append(_write_look_alikes(root, folder, name, painter))
            paint_labels(root / "labels" / f"{name}_labels.tif", painter, (size, size))
        paint_slide(root / folder / f"{name}.tif", painter, (size, size))
    if testing:
        _write_reference(root / "testing" / "reference.csv", grid)
    if look_alikes:
        write_json(root / "look_alikes.json", {"testing": look_alikes})
    return root


def _lesions(painter: Painter) -> Iterator[AnnotatedRegion]:
    """Yield outlines of all metastases, in level-0 pixels; some too wide, with the surplus cut out before or after."""
    recipe = painter.layout.recipe
    lesions = [s for s in painter.layout.structures if recipe.populations[s.population].class_name == "tumour"]
    for number, lesion in enumerate(lesions):
        outline = _outline(lesion, painter.mpp)
        if number % _GENEROUS_EVERY:
            yield AnnotatedRegion(_LESION, outline)
            continue
        generous = scale(outline, _GENEROUS, _GENEROUS)
        both = [AnnotatedRegion(_CUT_OUT, generous.difference(outline)), AnnotatedRegion(_LESION_TOO, generous)]
        yield from both if number % (2 * _GENEROUS_EVERY) else reversed(both)


def _write_look_alikes(root: Path, folder: str, name: str, painter: Painter) -> dict[str, object]:
    """Write outlines and classes of everything painted in the texture of metastases; return the datalist entry."""
    recipe = painter.layout.recipe
    populations = recipe.populations
    alike = next(p.texture for p in populations if p.class_name == "tumour")
    regions = [
        AnnotatedRegion(recipe.scheme.by_name(populations[s.population].class_name).label, _outline(s, painter.mpp))
        for s in painter.layout.structures
        if populations[s.population].texture is alike
    ]
    path = root / "labels" / f"{name}_look_alikes.geojson"
    write_geojson(path, regions, recipe.scheme)
    paths = {"image": f"{folder}/{name}.tif", "label": path.relative_to(root).as_posix()}
    return {**paths, "stain": "H&E", "synthetic": True}


def _outline(lesion: Structure, mpp: float) -> Polygon:
    return Polygon(lesion.outline[:, ::-1] / np.float64(mpp))


def _write_reference(path: Path, grid: list[tuple[str, str, bool]]) -> None:
    with atomic_write(path) as partial, Path(partial).open("w", newline="", encoding="utf-8") as file:
        for _, name, positive in grid:
            if name.startswith("test_"):
                csv.writer(file).writerow([name, "Tumor" if positive else "Normal"])

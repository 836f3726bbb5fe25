"""Write phantoms: slide, full label map and partial annotations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..annotations import AnnotatedRegion, write_asap_xml, write_geojson
from ..files import write_json
from ..outputs.pyramid import TILE, write_image_pyramid, write_label_pyramid
from .annotate import annotate
from .layout import Layout
from .paint import Painter
from .recipe import RECIPES, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhantomFiles:
    """The files of one phantom, and the share of its pixels that is annotated."""

    slide: Path
    labels: Path
    geojson: Path
    asap_xml: Path
    annotated_share: float


def write_phantom(
    folder: str | Path,
    name: str,
    seed: int,
    size: tuple[int, int],
    mpp: float = 0.5,
    recipe: Recipe | None = None,
    style: str = "whole",
) -> PhantomFiles:
    """Write one phantom, tile by tile, in memory that does not grow with its size.

    Args:
        folder: folder to write to.
        name: name of the files: ``<name>.tif``, ``<name>_labels.tif``, ``<name>.geojson``, ``<name>.xml``.
        seed: random seed; the same seed, size and mpp make the same files.
        size: height and width in pixels.
        mpp: µm/px.
        recipe: kind of slide; breast by default.
        style: style of annotation; see :func:`annotate`.
    """
    folder, recipe = Path(folder), recipe or RECIPES["breast"]
    painter = Painter(Layout(recipe, seed, size[0] * mpp, size[1] * mpp), mpp)
    files = PhantomFiles(
        folder / f"{name}.tif", folder / f"{name}_labels.tif", folder / f"{name}.geojson", folder / f"{name}.xml", 0.0
    )
    regions = list(annotate(painter, *size, style))
    write_geojson(files.geojson, regions, recipe.scheme)
    write_asap_xml(files.asap_xml, regions, recipe.scheme)
    paint_labels(files.labels, painter, size)
    paint_slide(files.slide, painter, size)
    return PhantomFiles(files.slide, files.labels, files.geojson, files.asap_xml, _share(regions, size))


def write_phantoms(
    folder: str | Path,
    training: int = 4,
    validation: int = 1,
    testing: int = 1,
    size: int = 6144,
    mpp: float = 0.5,
    seed: int = 0,
    recipe: str = "breast",
    style: str = "whole",
) -> Path:
    """Write a set of phantoms and its datalist.

    Training and validation slides are labelled by their partial annotations, testing slides by their full label maps.

    Args:
        folder: folder to write to.
        training, validation, testing: number of slides in each section.
        size: pixels per side.
        mpp: µm/px.
        seed: random seed of the first slide; each further slide has the next.
        recipe: key of :data:`RECIPES`.
        style: style of annotation; see :func:`annotate`.

    Returns:
        the datalist's path.
    """
    if recipe not in RECIPES:
        raise ValueError(f"no phantom recipe {recipe!r}; there are {', '.join(RECIPES)}")
    folder = Path(folder)
    datalist: dict[str, list[dict[str, object]]] = {}
    for section, count in (("training", training), ("validation", validation), ("testing", testing)):
        datalist[section] = []
        for _ in range(count):
            files = write_phantom(folder, f"phantom_{seed:04d}", seed, (size, size), mpp, RECIPES[recipe], style)
            label = files.labels if section == "testing" else files.geojson
            entry = {"image": files.slide.name, "label": label.name, "stain": "H&E", "synthetic": True}
            datalist[section].append(entry)
            logger.info("%s: %.1f %% annotated", files.slide.name, 100 * files.annotated_share)
            seed += 1
    path = folder / "datalist.json"
    write_json(path, datalist)
    return path


def paint_slide(path: Path, painter: Painter, size: tuple[int, int], quality: int = 90) -> None:
    """Write the picture of a phantom of ``size`` pixels as a pyramid of JPEG tiles of this quality."""
    bands = tqdm(
        _bands(painter.image, size), desc=f"painting {path.stem}", total=-(-size[0] // TILE), unit="band", leave=False
    )
    description = f"MultiMag phantom, seed {painter.layout.seed}"
    write_image_pyramid(path, bands, size, painter.mpp, quality, description)


def paint_labels(path: Path, painter: Painter, size: tuple[int, int]) -> None:
    """Write the full label map of a phantom of ``size`` pixels as a pyramid."""
    write_label_pyramid(path, _bands(painter.labels, size), size, painter.mpp, painter.layout.recipe.scheme)


def _bands(paint, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield bands of tiles, painted on two threads."""
    height, width = size
    lefts = range(0, width, TILE)
    with ThreadPoolExecutor(2) as pool:
        for top in range(0, height, TILE):
            rows = min(TILE, height - top)
            tile = partial(_tile, paint, top, rows, width)
            yield np.concatenate(list(pool.map(tile, lefts)), axis=1)


def _tile(paint, top: int, rows: int, width: int, left: int) -> np.ndarray:
    return paint(top, left, rows, min(TILE, width - left))


def _share(regions: list[AnnotatedRegion], size: tuple[int, int]) -> float:
    return sum(region.outline.area for region in regions) / (size[0] * size[1])

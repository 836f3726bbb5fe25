"""Labelled outlines, and the label that they give each pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from ..classes import IGNORE, UNLABELLED, ClassScheme, TissueClass
from ..errors import UnreadableFileError
from ..slides import Bounds, Slide
from .raster import OutlineRaster


class AnnotationError(UnreadableFileError):
    """An annotation file that cannot be read correctly."""


class ProportionsError(AnnotationError):
    """An annotated picture whose proportions differ from those of the slide, or of the slide's bounds."""


@dataclass(frozen=True)
class AnnotatedRegion:
    """An outline in level-0 ``(x, y)`` pixels, with its holes, and its label.

    Attributes:
        label: a class's label; 0 erases what lies under the outline; 255 leaves its pixels out, so that they stay
            unlabelled even where unannotated pixels are of a class.
        outline: the area.
        place: its place in the file, for messages.
    """

    label: int
    outline: Polygon | MultiPolygon
    place: str = field(default="", compare=False)


def class_of(region: AnnotatedRegion, scheme: ClassScheme) -> TissueClass:
    """Return the class of a region.

    Raises:
        ValueError: the region has none (label 0 or 255), which annotation files cannot express.
    """
    if not 1 <= region.label <= len(scheme):
        raise ValueError(f"a region of label {region.label} is of no class and cannot be written")
    return scheme.classes[region.label - 1]


def without_holes(outline: shapely.Geometry) -> list[Polygon]:
    """Return an area as pieces without holes, cut vertically through the middle hole until no piece has one."""
    pieces: list[Polygon] = []
    for part in shapely.get_parts(outline):
        if not isinstance(part, Polygon) or part.area == 0:
            continue
        if not part.interiors:
            pieces.append(part)
            continue
        left, top, right, bottom = part.bounds
        # With the middle one, the cuts of thousands of holes are nested only a few deep.
        middle = sorted(hole.centroid.x for hole in part.interiors)[len(part.interiors) // 2]
        for half in (shapely.box(left, top, middle, bottom), shapely.box(middle, top, right, bottom)):
            pieces.extend(without_holes(part.intersection(half)))
    return pieces


class LabelSource(ABC):
    """A source of each pixel's class on a slide, as far as the slide is annotated."""

    def label_map(
        self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]
    ) -> np.ndarray:
        """Return the labels around a centre (row, column; level 0): ``(height, width)`` uint8, 0 where unlabelled."""
        labels = self.drawn(slide, center, mpp, size)
        labels[labels == IGNORE] = UNLABELLED
        return labels

    @abstractmethod
    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        """Return the same as :meth:`label_map`, but 255 where pixels are left out on purpose; 0 is unannotated."""

    def touches(self, slide: Slide, top: float, left: float, height: float, width: float) -> bool:
        """Return False only if certainly nothing is annotated in this rectangle (level-0 pixels)."""
        return True


class Annotations(LabelSource):
    """Outlines, later ones on top. A pixel has the label of the last outline that its centre is in or on.

    Args:
        regions: the outlines.
        canvas: height and width of the picture whose pixels they are in; None: the slide's level 0. A smaller
            picture of the whole slide is scaled up.
        path: the file they are from, for messages.
        origin: ``"slide"``, or ``"bounds"`` if they count from the corner of the slide's bounds, and a smaller picture
            shows the bounds.

    Attributes:
        remark: sentence on the objects of the file that label nothing; empty if all show.
    """

    remark = ""

    def __init__(
        self,
        regions: Iterable[AnnotatedRegion],
        canvas: tuple[int, int] | None = None,
        path: Path | None = None,
        origin: str = "slide",
    ) -> None:
        self.regions = list(regions)
        self.canvas, self.path, self.origin = canvas, path, origin
        self._tree = shapely.STRtree([region.outline for region in self.regions])
        self._rasters: dict[int, OutlineRaster] = {}

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        height, width = (size, size) if isinstance(size, int) else size
        frame = slide.frame(self.origin)
        scale = self._scale(frame)
        down, across = (step * part for step, part in zip(slide.level0_pixels(mpp), scale, strict=True))
        top = (center[0] - frame.top) * scale[0] - height / 2 * down
        left = (center[1] - frame.left) * scale[1] - width / 2 * across
        labels = np.full((height, width), UNLABELLED, dtype=np.uint8)
        window = shapely.box(left, top, left + width * across, top + height * down)
        for index in sorted(self._tree.query(window).tolist()):
            self._raster(index).paint(labels, self.regions[index].label, (top, left), (down, across))
        return labels

    def touches(self, slide: Slide, top: float, left: float, height: float, width: float) -> bool:
        return bool(len(self._tree.query(self._box(slide, top, left, height, width))))

    def share_outside(self, slide: Slide) -> float:
        """Return the share of the annotated area that lies outside the slide."""
        canvas = self._box(slide, 0, 0, *slide.shape)
        areas = np.array([(r.outline.area, r.outline.intersection(canvas).area) for r in self.regions]).reshape(-1, 2)
        total, inside = areas.sum(axis=0)
        return float(1 - inside / total) if total else 0.0

    def _raster(self, index: int) -> OutlineRaster:
        if index not in self._rasters:
            self._rasters[index] = OutlineRaster(self.regions[index].outline)
        return self._rasters[index]

    def _box(self, slide: Slide, top: float, left: float, height: float, width: float) -> Polygon:
        """Return a rectangle of level-0 pixels in the outlines' own pixels."""
        frame = slide.frame(self.origin)
        down, across = self._scale(frame)
        x, y = left - frame.left, top - frame.top
        return shapely.box(x * across, y * down, (x + width) * across, (y + height) * down)

    def _scale(self, frame: Bounds) -> tuple[float, float]:
        """Return the annotated picture's pixels per level-0 pixel."""
        if self.canvas is None:
            return 1.0, 1.0
        return canvas_scale(self.path or Path(), self.canvas, frame)


def canvas_scale(path: Path, canvas: tuple[int, int], frame: Bounds) -> tuple[float, float]:
    """Return how many pixels (down, across) a picture of the slide, or of its bounds, has per level-0 pixel.

    Raises:
        ProportionsError: the picture's proportions differ from those of the slide or the bounds.
    """
    full = (frame.height, frame.width)
    down, across = (part / side for part, side in zip(canvas, full, strict=True))
    # Two correct scales differ by at most one pixel of rounding on either side.
    if abs(down - across) > 1.0 / min(full) + down / min(canvas):
        raise ProportionsError(
            path,
            f"its {canvas[0]} x {canvas[1]} pixels are not the slide's {full[0]} x {full[1]} at any scale",
            "The annotated picture must cover the whole slide, or with origin: bounds the slide's bounds",
        )
    return down, across


def polygonal(geometry: shapely.Geometry) -> Polygon | MultiPolygon | None:
    """Return the areas of a geometry, with self-crossing outlines repaired; None if it has none."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    # Twice, as a repaired outline can be a collection that holds a multipolygon.
    flat = shapely.get_parts(shapely.get_parts(geometry))
    parts = [part for part in flat if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


class ClassNames:
    """Lookup table from a file's class names to labels, which collects unknown names for one message.

    Args:
        path: the file, for the message.
        scheme: the classes.
        class_map: file's name -> scheme's name, or None to leave (and make) the pixels unlabelled.
    """

    def __init__(self, path: Path, scheme: ClassScheme, class_map: Mapping[str, str | None] | None) -> None:
        self.path, self.scheme = path, scheme
        self.class_map = dict(class_map or {})
        self.unknown: dict[str, int] = {}

    def knows(self, name: str) -> bool:
        """Return whether the name stands for a class or is mapped."""
        return name in self.class_map or name in self.scheme.names

    def first_known(self, candidates: Sequence[str], fallback: str) -> str:
        """Return the first of a region's names that stands for a class, else the first that is mapped to none.

        Args:
            candidates: the region's names.
            fallback: name to return if none is known.
        """
        known = [name for name in candidates if self.knows(name)]
        return next((name for name in known if self.class_map.get(name, name) is not None), (known or [fallback])[0])

    def label(self, name: str) -> int:
        """Return the label of a name; note an unknown name."""
        if name in self.class_map:
            mapped = self.class_map[name]
            return IGNORE if mapped is None else self._mapped(name, mapped)
        if name in self.scheme.names:
            return self.scheme.by_name(name).label
        self.unknown[name] = self.unknown.get(name, 0) + 1
        return UNLABELLED

    def _mapped(self, name: str, mapped: str) -> int:
        try:
            return self.scheme.by_name(mapped).label
        except ValueError as error:
            raise AnnotationError(
                self.path, f"class_map maps {name!r}: {error}", "Map it to one of these, or null"
            ) from None

    def check(self) -> None:
        """Check that no name was unknown.

        Raises:
            AnnotationError: some were; the message lists them and the scheme's names.
        """
        if self.unknown:
            listed = ", ".join(f"{name!r} ({count} objects)" for name, count in sorted(self.unknown.items()))
            raise AnnotationError(
                self.path,
                f"classes that the scheme does not have: {listed}",
                f"The scheme has {', '.join(self.scheme.names)}. Rename them, or map them with class_map "
                "(a name of the scheme, or null to leave them unlabelled)",
            )

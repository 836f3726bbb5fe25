"""Restrict labels to parts of a slide, and give unannotated pixels there a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from ..classes import IGNORE, UNLABELLED, ClassScheme
from ..slides import Slide
from ..slides.tissue import TissueMask, tissue_mask
from .regions import AnnotatedRegion, Annotations, LabelSource

WITHIN = ("slide", "tissue", "region")


@dataclass(frozen=True)
class Unannotated:
    """The class of unannotated pixels in the slide, its tissue or its regions (CAMELYON's and BACH's normal tissue)."""

    label: int
    within: str

    @classmethod
    def from_config(cls, value: Any, scheme: ClassScheme) -> Unannotated | None:
        """Read a datalist's ``unannotated``: ``"ignore"`` or absent, or ``{"class": …, "within": …}``.

        Raises:
            ValueError: the value is none of these.
        """
        if value in (None, "ignore"):
            return None
        if not isinstance(value, Mapping) or set(value) != {"class", "within"} or value["within"] not in WITHIN:
            raise ValueError(
                f'"unannotated" must be "ignore" or {{"class": a class, "within": one of {", ".join(WITHIN)}}}, '
                f"not {value!r}"
            )
        return cls(scheme.by_name(value["class"]).label, value["within"])


class ScopedLabels(LabelSource):
    """Another source's labels, only within regions, with a class for unannotated pixels.

    Args:
        labels: the annotation.
        regions: rectangles ``[top, left, height, width]`` in level-0 pixels outside of which nothing is labelled; None:
            the whole slide counts.
        unannotated: class of unannotated pixels, and where they have it.

    Raises:
        ValueError: a region is no rectangle, or ``unannotated`` is within regions and there are none.
    """

    def __init__(
        self,
        labels: LabelSource,
        regions: Sequence[Sequence[float]] | None = None,
        unannotated: Unannotated | None = None,
    ) -> None:
        self.labels, self.unannotated = labels, unannotated
        self._regions = None if regions is None else Annotations([_rectangle(region) for region in regions])
        if unannotated is not None and unannotated.within == "region" and self._regions is None:
            raise ValueError('"unannotated" says within "region", but the entry has no "regions"')
        self._tissue: TissueMask | None = None

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        labels = self.labels.drawn(slide, center, mpp, size)
        counts = np.ones(labels.shape, dtype=bool)
        if self._regions is not None:
            counts = self._regions.label_map(slide, center, mpp, size) != UNLABELLED
            # Annotations outside the regions do not count, but are not unannotated either: no prediction may replace
            # them.
            labels[~counts & (labels != UNLABELLED)] = IGNORE
        if self.unannotated is not None:
            unannotated = (labels == UNLABELLED) & counts & self._counts(slide, center, mpp, labels.shape)
            labels[unannotated] = self.unannotated.label
        return labels

    def touches(self, slide: Slide, top: float, left: float, height: float, width: float) -> bool:
        if self._regions is not None and not self._regions.touches(slide, top, left, height, width):
            return False
        if self.unannotated is None:
            return self.labels.touches(slide, top, left, height, width)
        if self.unannotated.within != "tissue":
            return True
        here = self._mask(slide).any(top, left, height, width)
        return here or self.labels.touches(slide, top, left, height, width)

    def _counts(self, slide: Slide, center: tuple[float, float], mpp: float, shape: tuple[int, ...]) -> np.ndarray:
        """Return a mask of where unannotated pixels get a class: on the slide, and on its tissue if asked."""
        assert self.unannotated is not None
        at = []
        for axis in (0, 1):
            step = slide.level0_pixels(mpp)[axis]
            at.append(center[axis] + (np.arange(shape[axis]) + 0.5 - shape[axis] / 2) * step)
        on_slide = [(a >= 0) & (a < full) for a, full in zip(at, slide.shape, strict=True)]
        counted = on_slide[0][:, None] & on_slide[1][None]
        if self.unannotated.within == "tissue":
            counted &= self._mask(slide).at(*at)
        return counted

    def _mask(self, slide: Slide) -> TissueMask:
        if self._tissue is None:
            self._tissue = tissue_mask(slide)
        return self._tissue


class FirstLabels(LabelSource):
    """The labels of one source, and of a second where the first has none: annotations over predictions.

    Pixels that the first source leaves out on purpose stay left out.
    """

    def __init__(self, first: LabelSource, second: LabelSource) -> None:
        self.first, self.second = first, second

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        labels = self.first.drawn(slide, center, mpp, size)
        return np.where(labels == UNLABELLED, self.second.drawn(slide, center, mpp, size), labels)

    def touches(self, slide: Slide, top: float, left: float, height: float, width: float) -> bool:
        return any(source.touches(slide, top, left, height, width) for source in (self.first, self.second))


def outlines_of(labels: LabelSource) -> Annotations | None:
    """Return the outlines of a source, whatever restricts them; None if it is an image."""
    while isinstance(labels, ScopedLabels | FirstLabels):
        labels = labels.labels if isinstance(labels, ScopedLabels) else labels.first
    return labels if isinstance(labels, Annotations) else None


def _rectangle(region: Sequence[float]) -> AnnotatedRegion:
    numbers = isinstance(region, list | tuple) and all(isinstance(n, int | float) for n in region)
    if not numbers or len(region) != 4 or min(region[2:]) <= 0:
        raise ValueError(f'a region of "regions" must be [top, left, height, width] in level-0 pixels, not {region!r}')
    top, left, height, width = region
    return AnnotatedRegion(1, shapely.box(left, top, left + width, top + height))

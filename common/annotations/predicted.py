"""Use a network's label map as a source of labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..classes import ClassScheme
from ..slides import Slide
from ..slides.backends import TiffBackend
from .regions import LabelSource


class PredictedLabels(LabelSource):
    """A ``prediction.tif`` as a source of labels, placed by its own µm/px.

    Args:
        path: the label map.
        scheme: the classes; by default those that the label map names.

    Raises:
        ValueError: the file is no label map of ours, or has other classes; on reading, it is not of that slide.
    """

    def __init__(self, path: str | Path, scheme: ClassScheme | None = None) -> None:
        self.scheme = scheme or written_scheme(path)
        self._labels = TiffBackend(Path(path))
        check_classes(self._labels, self.scheme)

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        shape = (size, size) if isinstance(size, int) else size
        steps = slide.level0_pixels(label_map_mpp(self._labels, slide))
        result = np.zeros(shape, dtype=np.uint8)
        at = []
        for axis in (0, 1):
            places = center[axis] + (np.arange(shape[axis]) + 0.5 - shape[axis] / 2) * slide.level0_pixels(mpp)[axis]
            at.append(np.floor(places / steps[axis] + 1e-6).astype(np.int64))
        inside = [(a >= 0) & (a < side) for a, side in zip(at, self._labels.level_shapes[0], strict=True)]
        rows, columns = (a[here] for a, here in zip(at, inside, strict=True))
        if len(rows) and len(columns):
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            read = self._labels.read_samples(0, int(rows[0]), int(columns[0]), height, width)[..., 0]
            result[np.ix_(*inside)] = read[np.ix_(rows - rows[0], columns - columns[0])]
        return result


def written_scheme(prediction: str | Path) -> ClassScheme:
    """Return the classes that a ``prediction.tif`` names, all in grey. The bundle's configs are not needed.

    Raises:
        ValueError: the file is no label map of ours.
    """
    labels = TiffBackend(Path(prediction))
    try:
        names = {int(label): name for label, name in _written_classes(labels).items()}
    finally:
        labels.close()
    classes = [
        {"name": names[label], "color": (128, 128, 128), "label": label, "channel": label - 1}
        for label in sorted(names)
    ]
    return ClassScheme(classes)


def _written_classes(labels: TiffBackend) -> dict[str, str]:
    """Return label -> class name."""
    try:
        return json.loads(labels.pages[0].description)["classes"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{labels.path}: not a label map of ours (its description names no classes)") from error


def check_classes(labels: TiffBackend, scheme: ClassScheme) -> None:
    """Raise ValueError unless a label map names exactly these classes."""
    written = _written_classes(labels)
    names = {str(tissue_class.label): tissue_class.name for tissue_class in scheme.classes}
    if written != names:
        raise ValueError(f"{labels.path}: its classes are {written}, the scheme's {names}")


def label_map_mpp(labels: TiffBackend, slide: Slide) -> float:
    """Return a label map's µm/px.

    Raises:
        ValueError: the label map does not state it, or does not cover the slide.
    """
    if labels.mpp is None:
        raise ValueError(f"{labels.path}: no µm/px in its resolution tags")
    mpp = labels.mpp[0]
    covered = [side * step for side, step in zip(labels.level_shapes[0], slide.level0_pixels(mpp), strict=True)]
    if any(
        not -1e-3 * step <= have - side < step
        for have, side, step in zip(covered, slide.shape, slide.level0_pixels(mpp), strict=True)
    ):
        raise ValueError(
            f"{labels.path}: {labels.level_shapes[0]} pixels of {mpp:.4g} µm do not cover {slide.path.name} "
            f"({slide.shape} pixels of {slide.mpp:.4g} µm)"
        )
    return mpp

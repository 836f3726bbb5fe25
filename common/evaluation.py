"""Scores stitched predictions of whole slides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .annotations import LabelSource
from .classes import ClassScheme
from .metrics import confusion_matrix
from .slides import RegionMask, Slide
from .slides.backends import TiffBackend

_BAND = 2048


def score_slide(
    slide: Slide, prediction: str | Path, truth: LabelSource, scheme: ClassScheme, count_skipped: bool = True
) -> np.ndarray:
    """Confusion matrix of a slide's ``prediction.tif`` over its labelled pixels.

    Args:
        slide: the slide that was segmented.
        prediction: its label map, as the engine wrote it.
        truth: its annotation.
        scheme: the classes.
        count_skipped: pixels that were not predicted (left out by the tissue mask) count as the scheme's ``skipped``
            class where it has one, instead of as "not predicted"; those outside the segmented regions do not.

    Returns:
        as :func:`common.metrics.confusion_matrix`.

    Raises:
        ValueError: the prediction is not of this slide, or of other classes.
    """
    labels = TiffBackend(Path(prediction))
    try:
        _check_classes(labels, scheme)
        height, width = labels.level_shapes[0]
        mpp = _mpp(labels, slide)
        pixel = slide.pixel(mpp)
        skipped = scheme.skipped.label if count_skipped and scheme.skipped is not None else 0
        regions = segmented_regions(prediction)
        asked = None if regions is None else RegionMask(regions)
        total = np.zeros((len(scheme), len(scheme) + 1), dtype=np.int64)
        for top in tqdm(range(0, height, _BAND), desc=f"scoring {slide.name}", unit="band", delay=2, leave=False):
            rows = min(_BAND, height - top)
            predicted = labels.read_samples(0, top, 0, rows, width)[..., 0]
            center = ((top + rows / 2) * pixel[0], width / 2 * pixel[1])
            true = truth.label_map(slide, center, mpp, (rows, width))
            left_out = predicted == 0
            if asked is not None:
                left_out &= asked.at((top + np.arange(rows) + 0.5) * pixel[0], (np.arange(width) + 0.5) * pixel[1])
            total += confusion_matrix(np.where(left_out, skipped, predicted), true, len(scheme))
        return total
    finally:
        labels.close()


class PredictedLabels(LabelSource):
    """A ``prediction.tif`` as a source of labels, placed by its own µm/px.

    Args:
        path: the label map.
        scheme: its classes; by default as it names them.

    Raises:
        ValueError: it is no label map of ours, or of other classes; on reading, not of that slide.
    """

    def __init__(self, path: str | Path, scheme: ClassScheme | None = None) -> None:
        self.scheme = scheme or written_scheme(path)
        self._labels = TiffBackend(Path(path))
        _check_classes(self._labels, self.scheme)

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        shape = (size, size) if isinstance(size, int) else size
        steps = slide.pixel(_mpp(self._labels, slide))
        result = np.zeros(shape, dtype=np.uint8)
        at = []
        for axis in (0, 1):
            places = center[axis] + (np.arange(shape[axis]) + 0.5 - shape[axis] / 2) * slide.pixel(mpp)[axis]
            at.append(np.floor(places / steps[axis] + 1e-6).astype(np.int64))
        inside = [(a >= 0) & (a < side) for a, side in zip(at, self._labels.level_shapes[0], strict=True)]
        rows, columns = (a[here] for a, here in zip(at, inside, strict=True))
        if len(rows) and len(columns):
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            read = self._labels.read_samples(0, int(rows[0]), int(columns[0]), height, width)[..., 0]
            result[np.ix_(*inside)] = read[np.ix_(rows - rows[0], columns - columns[0])]
        return result


def segmented_regions(prediction: str | Path) -> list[list[float]] | None:
    """The regions of its slide that a ``prediction.tif`` is of, as the summary beside it says; None: all of it."""
    summary = Path(prediction).with_name("summary.json")
    if not summary.exists():
        return None
    return json.loads(summary.read_text(encoding="utf-8")).get("settings", {}).get("regions")


def written_scheme(prediction: str | Path) -> ClassScheme:
    """The classes that a ``prediction.tif`` names, in grey: of whichever bundle, without its configs.

    Raises:
        ValueError: it is no label map of ours.
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
    """Label -> class name."""
    try:
        return json.loads(labels.pages[0].description)["classes"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{labels.path}: not a label map of ours (its description names no classes)") from error


def _check_classes(labels: TiffBackend, scheme: ClassScheme) -> None:
    written = _written_classes(labels)
    names = {str(tissue.label): tissue.name for tissue in scheme.classes}
    if written != names:
        raise ValueError(f"{labels.path}: its classes are {written}, the scheme's {names}")


def _mpp(labels: TiffBackend, slide: Slide) -> float:
    if labels.mpp is None:
        raise ValueError(f"{labels.path}: no µm/px in its resolution tags")
    mpp = labels.mpp[0]
    covered = [side * step for side, step in zip(labels.level_shapes[0], slide.pixel(mpp), strict=True)]
    if any(
        not -1e-3 * step <= have - side < step
        for have, side, step in zip(covered, slide.shape, slide.pixel(mpp), strict=True)
    ):
        raise ValueError(
            f"{labels.path}: {labels.level_shapes[0]} pixels of {mpp:.4g} µm do not cover {slide.path.name} "
            f"({slide.shape} pixels of {slide.mpp:.4g} µm)"
        )
    return mpp

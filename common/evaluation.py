"""Scores stitched predictions of whole slides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .annotations import LabelSource
from .classes import ClassScheme
from .metrics import confusion_matrix
from .slides import Slide
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
            class where it has one, instead of as "not predicted".

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
        total = np.zeros((len(scheme), len(scheme) + 1), dtype=np.int64)
        for top in tqdm(range(0, height, _BAND), desc=f"scoring {slide.name}", unit="band", delay=2, leave=False):
            rows = min(_BAND, height - top)
            predicted = labels.read_samples(0, top, 0, rows, width)[..., 0]
            center = ((top + rows / 2) * pixel[0], width / 2 * pixel[1])
            true = truth.label_map(slide, center, mpp, (rows, width))
            total += confusion_matrix(np.where(predicted == 0, skipped, predicted), true, len(scheme))
        return total
    finally:
        labels.close()


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

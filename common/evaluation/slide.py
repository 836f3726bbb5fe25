"""Score stitched predictions of whole slides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..annotations import LabelSource, check_classes, label_map_mpp
from ..classes import ClassScheme
from ..metrics.segmentation import confusion_matrix
from ..slides import RegionMask, Slide
from ..slides.backends import TiffBackend

_BAND = 2048


def score_slide(
    slide: Slide, prediction: str | Path, truth: LabelSource, scheme: ClassScheme, count_skipped: bool = True
) -> np.ndarray:
    """Return the confusion matrix of a slide's ``prediction.tif`` over its labelled pixels.

    Args:
        slide: the slide that was segmented.
        prediction: label map that the engine wrote.
        truth: annotation of the slide.
        scheme: the classes.
        count_skipped: whether pixels that the tissue mask left out count as the scheme's ``skipped`` class, if it has
            one, instead of as "not predicted". Pixels outside the segmented regions never do.

    Returns:
        the matrix of :func:`common.metrics.confusion_matrix`.

    Raises:
        ValueError: the prediction is not of this slide, or has other classes.
    """
    labels = TiffBackend(Path(prediction))
    try:
        check_classes(labels, scheme)
        height, width = labels.level_shapes[0]
        mpp = label_map_mpp(labels, slide)
        pixel = slide.level0_pixels(mpp)
        skipped = scheme.skipped.label if count_skipped and scheme.skipped is not None else 0
        regions = segmented_regions(prediction)
        asked = None if regions is None else RegionMask(regions)
        total = np.zeros((len(scheme), len(scheme) + 1), dtype=np.int64)
        for top in tqdm(range(0, height, _BAND), desc=f"scoring {slide.name}", unit="band", delay=2, leave=False):
            rows = min(_BAND, height - top)
            predicted = labels.read_samples(0, top, 0, rows, width)[..., 0]
            center = ((top + rows / 2) * pixel[0], width / 2 * pixel[1])
            annotated = truth.label_map(slide, center, mpp, (rows, width))
            left_out = predicted == 0
            if asked is not None:
                left_out &= asked.at((top + np.arange(rows) + 0.5) * pixel[0], (np.arange(width) + 0.5) * pixel[1])
            total += confusion_matrix(np.where(left_out, skipped, predicted), annotated, len(scheme))
        return total
    finally:
        labels.close()


def segmented_regions(prediction: str | Path) -> list[list[float]] | None:
    """Return the regions that were segmented, from the summary next to a ``prediction.tif``; None: the whole slide."""
    summary = Path(prediction).with_name("summary.json")
    if not summary.exists():
        return None
    return json.loads(summary.read_text(encoding="utf-8")).get("settings", {}).get("regions")

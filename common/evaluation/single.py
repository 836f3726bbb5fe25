"""Score one segmented slide against its annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..annotations import read_annotations
from ..classes import ClassScheme
from ..reports.scores import ScoreReport
from ..slides import open_entry
from .slide import score_slide


def score_prediction(
    prediction: str | Path,
    truth: str | Path,
    slide: str | Path,
    scheme: ClassScheme,
    output: str | Path | None = None,
    mpp: float | None = None,
    origin: str | None = None,
    series: int | None = None,
) -> tuple[dict[str, Any], Path]:
    """Score a slide's ``prediction.tif`` and write ``scores.json``, ``scores.csv`` and ``confusion.png``.

    Args:
        prediction: the label map.
        truth: annotation of the slide.
        slide: the slide.
        scheme: the classes.
        output: folder to write to; by default ``scores``, next to the prediction.
        mpp: µm/px of the slide, instead of the file's.
        origin: origin of the annotation's coordinates, ``slide`` or ``bounds``.
        series: number of the image, in a slide file of several.

    Returns:
        the scores and the folder.
    """
    folder = Path(output) if output else Path(prediction).parent / "scores"
    entry = {"image": str(slide), "mpp": mpp, "series": series}
    with open_entry(entry) as opened:
        matrix = score_slide(opened, prediction, read_annotations(truth, scheme, origin=origin), scheme)
    return ScoreReport(scheme, matrix[None], [entry]).write(folder), folder

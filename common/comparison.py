"""Several models on the same slides: side by side, and in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from .annotations import LabelSource, read_annotations
from .classes import ClassScheme
from .data import SlideStore, load_datalist
from .evaluation import score_slide
from .files import write_json, written_whole
from .outputs.overlay import blend
from .outputs.panels import panels
from .reports import FIGURES, ScoreReport, write_table
from .slides import Slide, slide_name

_PANEL = 700
_OPACITY = 0.6


def compare_runs(
    runs: Mapping[str, str | Path],
    datalist: str | Path,
    scheme: ClassScheme,
    out: str | Path,
    section: str = "testing",
    classes: Sequence[str] | None = None,
    name_by: str | None = None,
) -> pd.DataFrame:
    """Score the predictions of several runs of inference.yaml and lay them side by side.

    Args:
        runs: title -> the run's output folder, which holds ``<slide name>/prediction.tif``.
        datalist: slides and their annotations.
        scheme: the classes.
        out: folder for ``comparison.csv``, ``comparison.json`` and ``<slide name>.png`` (image, truth, each run).
        section: of the datalist.
        classes: those that count; all by default.
        name_by: column that named the runs' folders; see :class:`SlideDataset`.

    Returns:
        one row per run: mean IoU, recall, precision and F1, pixel accuracy, and the IoU of each class (the form of the
        papers' tables).

    Raises:
        ValueError: a run lacks a slide, or predicted other classes.
    """
    items, out = load_datalist(datalist, section), Path(out)
    predictions = {
        title: [_prediction(Path(folder), item, name_by) for item in items] for title, folder in runs.items()
    }
    store = SlideStore(scheme)
    matrices: dict[str, list[np.ndarray]] = {title: [] for title in runs}
    for number, item in enumerate(tqdm(items, desc="comparing", unit="slide", delay=2, leave=False)):
        slide, truth = store.slide(item), store.labels(item)
        shown: dict[str, LabelSource] = {"truth": truth}
        for title, paths in predictions.items():
            matrices[title].append(score_slide(slide, paths[number], truth, scheme))
            shown[title] = read_annotations(paths[number], scheme)
        write_panels(out / f"{_name(item, name_by)}.png", slide, shown, scheme)
    reports = {
        title: ScoreReport(scheme, np.stack(found), items, classes).figures() for title, found in matrices.items()
    }
    write_json(out / "comparison.json", reports)
    table = pd.DataFrame([_row(title, figures) for title, figures in reports.items()])
    write_table(out / "comparison.csv", table)
    return table


def write_panels(path: Path, slide: Slide, shown: Mapping[str, LabelSource], scheme: ClassScheme) -> None:
    """Write the slide, and beside it each source of labels laid over it, at most 700 pixels a side."""
    mpp = max(max(slide.shape) * slide.mpp / _PANEL, slide.mpp)
    height, width = (max(1, round(side / step)) for side, step in zip(slide.shape, slide.pixel(mpp), strict=True))
    center = (slide.shape[0] / 2, slide.shape[1] / 2)
    tissue = slide.read(center, mpp, (height, width), snap=0)
    pictures = {"slide": tissue}
    for title, labels in shown.items():
        found = labels.label_map(slide, center, mpp, (height, width))
        pictures[title] = blend(tissue, found, scheme, opacity=_OPACITY)
    with written_whole(path) as partial:
        panels(pictures, scheme).save(partial)


def _prediction(folder: Path, item: Mapping[str, Any], name_by: str | None) -> Path:
    path = folder / _name(item, name_by) / "prediction.tif"
    if not path.exists():
        raise ValueError(f"{path}: no such prediction. Segment the slide with output_dir {folder} first")
    return path


def _name(item: Mapping[str, Any], name_by: str | None) -> str:
    return str(item[name_by]) if name_by is not None else slide_name(item["image"])


def _row(title: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    means = {f"mean {figure}": figures[f"mean_{figure}"] for figure in FIGURES}
    ious = {f"IoU {name}": row["iou"] for name, row in figures["classes"].items()}
    return {"model": title, **means, "pixel accuracy": figures["pixel_accuracy"], **ious}

"""Compare several models on the same slides, side by side and in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..annotations import LabelSource, PredictedLabels
from ..classes import ClassScheme
from ..data import SlideStore, load_datalist, output_name
from ..files import atomic_write, same_name, write_json
from ..outputs.ome_zarr import read_probability
from ..outputs.overlay import blend
from ..outputs.panels import panels
from ..reports.scores import METRICS, ScoreReport, plot_classes, score_column, write_table
from ..slides import Slide
from .slide import score_slide

_PANEL = 700
_OPACITY = 0.6
# Name of the picture of every class's scores, and suffix of pictures of probabilities.
_CLASSES, _MAPS = "classes", "_probabilities"


def compare_runs(
    runs: Mapping[str, str | Path],
    datalist: str | Path,
    scheme: ClassScheme,
    out: str | Path,
    section: str = "testing",
    classes: Sequence[str] | None = None,
    name_by: str | None = None,
    evaluated: Mapping[str, str | Path] | None = None,
) -> pd.DataFrame:
    """Score the predictions of several runs of inference.yaml, and draw them side by side.

    Args:
        runs: title -> the run's output folder, which holds ``<slide name>/prediction.tif``.
        datalist: slides and their annotations.
        scheme: the classes.
        out: folder for ``comparison.csv``, ``comparison.json``, ``classes.png`` (scores of every class) and
            ``<slide name>.png`` (image, truth, each run); for a sigmoid's runs with ``probabilities.zarr`` also
            ``<slide name>_probabilities.png``.
        section: section of the datalist.
        classes: classes that count; all by default.
        name_by: column that named the runs' folders; see :class:`SlideDataset`.
        evaluated: title -> output folder of evaluate.yaml, whose ``scores.json`` over patches goes into the same table.

    Returns:
        one row per run: mean IoU, recall, precision and F1, pixel accuracy, and the IoU of each class (the form of the
        papers' tables). With ``evaluated``, a column tells whether a row is over patches or slides.

    Raises:
        ValueError: a run lacks a slide, or predicted other classes; or a folder has no scores.
    """
    patches = {title: _evaluation(Path(folder), scheme) for title, folder in (evaluated or {}).items()}
    items, out = load_datalist(datalist, section), Path(out)
    predictions = {
        title: [_prediction(Path(folder), item, name_by) for item in items] for title, folder in runs.items()
    }
    names = _distinct([output_name(item, name_by) for item in items])
    store = SlideStore(scheme)
    matrices: dict[str, list[np.ndarray]] = {title: [] for title in runs}
    for number, item in enumerate(tqdm(items, desc="comparing", unit="slide", delay=2, leave=False)):
        slide, truth = store.slide(item), store.labels(item)
        shown: dict[str, LabelSource] = {"truth": truth}
        for title, paths in predictions.items():
            matrices[title].append(score_slide(slide, paths[number], truth, scheme))
            shown[title] = PredictedLabels(paths[number], scheme)
        name = names[number]
        write_panels(out / f"{name}.png", slide, shown, scheme)
        maps = {title: paths[number].with_name("probabilities.zarr") for title, paths in predictions.items()}
        maps = {title: path for title, path in maps.items() if path.is_dir()}
        if scheme.activation == "sigmoid" and maps:
            write_probability_panels(out / f"{name}{_MAPS}.png", slide, truth, maps, scheme)
    reports = {
        title: ScoreReport(scheme, np.stack(found), items, classes).results() for title, found in matrices.items()
    }
    write_json(out / "comparison.json", reports)
    plot_classes(reports, scheme, out / f"{_CLASSES}.png")
    table = pd.DataFrame([_row(title, results) for title, results in [*patches.items(), *reports.items()]])
    if patches:
        table.insert(1, "over", ["patches"] * len(patches) + ["slides"] * len(reports))
    write_table(out / "comparison.csv", table)
    return table


def write_panels(path: Path, slide: Slide, shown: Mapping[str, LabelSource], scheme: ClassScheme) -> None:
    """Write a picture of the slide and, next to it, each source of labels over it, at most 700 pixels a side."""
    view = _Overview.of(slide)
    pictures = {"slide": view.tissue}
    for title, labels in shown.items():
        pictures[title] = blend(view.tissue, view.labels(labels), scheme, opacity=_OPACITY)
    with atomic_write(path) as partial:
        panels(pictures, scheme, _OPACITY).save(partial)


def write_probability_panels(
    path: Path, slide: Slide, truth: LabelSource, maps: Mapping[str, Path], scheme: ClassScheme
) -> None:
    """Write a picture of the slide, its truth, and each map of a sigmoid's probability, dark where it is low (the form
    of Gu et al. 2018, Fig. 4).

    Args:
        path: picture to write.
        slide: the slide.
        truth: annotation of the slide.
        maps: title -> ``probabilities.zarr``.
        scheme: the classes, of a sigmoid.
    """
    view = _Overview.of(slide)
    colors = _probability_colors()
    pictures = {"slide": view.tissue, "truth": colors[255 * (view.labels(truth) == scheme.positive.label)]}
    for title, folder in maps.items():
        probability = view.resampled(*read_probability(folder, scheme.positive.name, view.mpp))
        pictures[title] = colors[np.round(255 * probability).astype(np.uint8)]
    steps = (0, 64, 128, 191, 255)
    legend = ClassScheme(
        [
            {
                "name": f"{scheme.positive.name} {step / 255:.0%}",
                "color": colors[step].tolist(),
                "label": i + 1,
                "channel": i,
            }
            for i, step in enumerate(steps)
        ]
    )
    with atomic_write(path) as partial:
        panels(pictures, legend).save(partial)


@dataclass(frozen=True)
class _Overview:
    """A whole slide in one small picture.

    Attributes:
        slide: the slide.
        mpp: µm per pixel of the picture.
        tissue: the picture, ``(height, width, 3)`` uint8.
    """

    slide: Slide
    mpp: float
    tissue: np.ndarray

    @classmethod
    def of(cls, slide: Slide) -> _Overview:
        mpp = max(max(slide.shape) * slide.mpp / _PANEL, slide.mpp)
        size = tuple(
            max(1, round(side / step)) for side, step in zip(slide.shape, slide.level0_pixels(mpp), strict=True)
        )
        return cls(slide, mpp, slide.read(_middle(slide), mpp, (size[0], size[1]), level_tolerance=0))

    def labels(self, source: LabelSource) -> np.ndarray:
        """Return the label map on the picture's pixels."""
        return source.label_map(self.slide, _middle(self.slide), self.mpp, self.tissue.shape[:2])

    def resampled(self, values: np.ndarray, mpp: float) -> np.ndarray:
        """Return the nearest values, on the picture's pixels, of a map of the whole slide at ``mpp``."""
        at = [
            np.clip(((np.arange(side) + 0.5) * self.mpp / mpp).astype(np.int64), 0, have - 1)
            for side, have in zip(self.tissue.shape[:2], values.shape, strict=True)
        ]
        return values[np.ix_(*at)]


def _middle(slide: Slide) -> tuple[float, float]:
    return slide.shape[0] / 2, slide.shape[1] / 2


def _probability_colors() -> np.ndarray:
    """Return ``(256, 3)`` uint8 colours from black for 0 to light yellow for 1."""
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _prediction(folder: Path, item: Mapping[str, Any], name_by: str | None) -> Path:
    path = folder / output_name(item, name_by) / "prediction.tif"
    if not path.exists():
        raise ValueError(f"{path}: no such prediction. Segment the slide with output_dir {folder} first")
    return path


def _evaluation(folder: Path, scheme: ClassScheme) -> dict[str, Any]:
    """Read the scores that an evaluation wrote."""
    path = folder / "scores.json"
    if not path.exists():
        raise ValueError(f"{path}: no such scores. Run evaluate.yaml with output_dir {folder} first")
    results = json.loads(path.read_text(encoding="utf-8"))
    if set(results["classes"]) - set(scheme.names):
        raise ValueError(f"{path}: scores of {', '.join(results['classes'])}, not of {', '.join(scheme.names)}")
    return results


def _distinct(names: Sequence[str]) -> list[str]:
    """Return distinct names of pictures: for several regions of one slide, the second is ``<name>_2``.

    No name is another picture's, nor that of the picture of every class's scores.
    """
    taken, distinct = {_CLASSES}, []
    for name in names:
        numbered = (name, *(f"{name}_{number}" for number in range(2, len(names) + 3)))
        # Case is ignored: on Windows and macOS, names that differ only in case are one file.
        free = next(one for one in numbered if not {same_name(one), same_name(f"{one}{_MAPS}")} & taken)
        taken |= {same_name(free), same_name(f"{free}{_MAPS}")}
        distinct.append(free)
    return distinct


def _row(title: str, results: Mapping[str, Any]) -> dict[str, Any]:
    means = {f"mean {metric}": results[f"mean_{metric}"] for metric in METRICS}
    ious = {f"IoU {name}": row["iou"] for name, row in results["classes"].items()}
    return {"model": title, **means, "pixel accuracy": results["pixel_accuracy"], **score_column(results), **ious}

"""Write ROC curves: of one network's slides, and of several networks in one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classes import ClassScheme
from ..figures import new_figure, save_figure
from ..files import write_json
from ..metrics.roc import auc, roc_curve
from ..metrics.segmentation import scores
from ..slides import file_name
from .scores import write_table

# Points of a curve that is written or drawn; areas are computed from all points.
_POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """A ROC curve: false and true positive rates from (0, 0) to (1, 1), and the area under it."""

    false_positives: np.ndarray
    true_positives: np.ndarray
    area: float


class ROCReport:
    """Curves and results of several slides: of all their pixels together, and of each slide.

    Args:
        scheme: the classes, of a sigmoid.
        counts: pixels by truth and score of each slide, ``(slides, 2, 65536)``; from :class:`SlideROC`.
        matrices: confusion matrix of each slide at the scheme's threshold; from :class:`SlideConfusion`.
        data: datalist entry of each slide.
    """

    def __init__(
        self, scheme: ClassScheme, counts: np.ndarray, matrices: np.ndarray, data: Sequence[Mapping[str, Any]]
    ) -> None:
        self.scheme, self.counts, self.matrices = scheme, counts, matrices
        self.names = [file_name(item) for item in data]
        self.positive = scheme.positive.name
        self.negative = scheme.negative.name

    def results(self) -> dict[str, Any]:
        """Return area under the curve, and sensitivity, specificity and Dice coefficient at the scheme's threshold.

        They are pooled and of each slide, with the mean area of the slides that have pixels of both classes. Results
        that need a class without pixels are None.
        """
        slides = [
            {"slide": name, **self._results(counts, matrix)}
            for name, counts, matrix in zip(self.names, self.counts, self.matrices, strict=True)
        ]
        areas = [row["auc"] for row in slides if row["auc"] is not None]
        return {
            "positive": self.positive,
            "threshold": self.scheme.threshold,
            "pooled": self._results(self.counts.sum(axis=0), self.matrices.sum(axis=0)),
            "mean_auc_of_slides": float(np.mean(areas)) if areas else None,
            "slides_with_both_classes": len(areas),
            "slides": slides,
        }

    def write(self, output_dir: str | Path) -> dict[str, Any]:
        """Write ``roc.json``, ``roc.csv`` (some 2,000 points of the pooled curve) and ``roc.png`` (with each slide's),
        and return the results. Without pixels of both classes there is no curve, and only ``roc.json`` is written."""
        output_dir, results = Path(output_dir), self.results()
        write_json(output_dir / "roc.json", results)
        pooled = curve_of(self.counts.sum(axis=0))
        if pooled is not None:
            thinned = _thinned(pooled)
            rates = {"false_positive_rate": thinned.false_positives, "true_positive_rate": thinned.true_positives}
            write_table(output_dir / "roc.csv", pd.DataFrame(rates))
            slides = [curve for curve in map(curve_of, self.counts) if curve is not None]
            plot_curves(output_dir / "roc.png", {"all pixels": pooled}, slides if len(slides) > 1 else ())
        return results

    def _results(self, counts: np.ndarray, matrix: np.ndarray) -> dict[str, Any]:
        classes = scores(matrix, self.scheme.names)["classes"]
        return {
            "auc": auc(counts),
            "sensitivity": classes[self.positive]["recall"],
            "specificity": classes[self.negative]["recall"],
            "dice": classes[self.positive]["f1"],
            "pixels": {name: classes[name]["labelled_pixels"] for name in (self.positive, self.negative)},
        }


def curve_of(counts: np.ndarray) -> Curve | None:
    """Return the curve of counts from :func:`count_scores`; None if one class has no pixels."""
    area = auc(counts)
    return None if area is None else Curve(*roc_curve(counts), area)


def compare_curves(runs: Mapping[str, str | Path], out: str | Path) -> pd.DataFrame:
    """Draw the pooled curves of several evaluations in one picture, with a table (the form of Gu et al. 2018, Fig. 3).

    Args:
        runs: title -> folder with the ``roc.json`` and ``roc.csv`` of an evaluation.
        out: folder for ``roc.png`` and ``roc_comparison.csv``.

    Returns:
        one row per run: pooled area, mean area of slides, sensitivity, specificity and Dice coefficient.

    Raises:
        ValueError: a folder has no curve.
    """
    curves, rows = {}, []
    for title, folder in runs.items():
        results, curves[title] = read_curve(folder)
        pooled = {name: results["pooled"][name] for name in ("auc", "sensitivity", "specificity", "dice")}
        rows.append({"network": title, **pooled, "mean AUC of slides": results["mean_auc_of_slides"]})
    table = pd.DataFrame(rows)
    write_table(Path(out) / "roc_comparison.csv", table)
    plot_curves(Path(out) / "roc.png", curves)
    return table


def read_curve(folder: str | Path) -> tuple[dict[str, Any], Curve]:
    """Read the results and the pooled curve that an evaluation wrote.

    Raises:
        ValueError: there is none.
    """
    folder = Path(folder)
    if not (folder / "roc.csv").exists():
        raise ValueError(f"{folder / 'roc.csv'}: no such curve. Evaluate with output_dir {folder} first")
    results = json.loads((folder / "roc.json").read_text(encoding="utf-8"))
    rates = pd.read_csv(folder / "roc.csv").to_numpy().T
    return results, Curve(rates[0], rates[1], results["pooled"]["auc"])


def plot_curves(path: str | Path, curves: Mapping[str, Curve], faint: Sequence[Curve] = ()) -> None:
    """Draw curves with their areas in the legend, and next to them the upper left corner, enlarged.

    Args:
        path: picture to write.
        curves: title -> curve.
        faint: further curves, thin and without a name.
    """
    figure = new_figure(11, 5.2)
    for axes, widest in zip(figure.subplots(1, 2), (1.0, 0.2), strict=True):
        for curve in map(_thinned, faint):
            axes.plot(curve.false_positives, curve.true_positives, color="0.75", linewidth=0.8)
        for title, curve in curves.items():
            thin = _thinned(curve)
            label = f"{title} ({curve.area:.4f})"
            axes.plot(thin.false_positives, thin.true_positives, linewidth=1.6, label=label)
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        axes.set(xlim=(0, widest), ylim=(1 - widest, 1.002), xlabel="false positive rate", ylabel="true positive rate")
        axes.grid(alpha=0.3)
    legend = figure.axes[0].legend(title="network (area)" if len(curves) > 1 else None, loc="lower right")
    if faint:
        legend.set_title(f"grey: {len(faint)} single slides")
    figure.axes[1].set_title("upper left corner", fontsize=10)
    save_figure(figure, path)


def _thinned(curve: Curve) -> Curve:
    """Return a curve of some 2,000 points at most, evenly spaced along the curve, with both ends."""
    steps = curve.false_positives + curve.true_positives
    if len(steps) <= _POINTS:
        return curve
    at = np.unique(np.searchsorted(steps, np.linspace(0, 2, _POINTS)).clip(max=len(steps) - 1))
    at = np.union1d(at, [0, len(steps) - 1])
    return Curve(curve.false_positives[at], curve.true_positives[at], curve.area)

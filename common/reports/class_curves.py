"""Write curves of every class against the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classes import ClassScheme
from ..figures import new_figure, save_figure
from ..files import write_json
from ..metrics.class_curves import break_even_point, threshold_table
from ..metrics.roc import auc
from .roc import curve_of
from .scores import write_table


class ClassCurvesReport:
    """Curves of every class that has labelled pixels, if other classes have some too.

    Args:
        scheme: the classes.
        counts: result of :class:`ClassCurves`.
    """

    def __init__(self, scheme: ClassScheme, counts: np.ndarray) -> None:
        self.scheme = scheme
        self.counts = {
            tissue_class.name: counts[tissue_class.label - 1]
            for tissue_class in scheme.classes
            if counts[tissue_class.label - 1].any(axis=1).all()
        }
        self.tables = {name: threshold_table(found) for name, found in self.counts.items()}

    def results(self) -> dict[str, Any]:
        """Return results per class; classes without pixels are absent.

        These are the area under the ROC curve, and with their thresholds the highest IoU, and the points where
        precision equals recall and sensitivity equals specificity.
        """
        return {name: self._results(name) for name in self.tables}

    def write(self, output_dir: str | Path) -> dict[str, Any]:
        """Write ``curves.json``, ``curves.csv`` (a row per class and threshold) and ``curves.png`` (the form of Modi et
        al. 2024, Table 2), and return the results."""
        output_dir, results = Path(output_dir), self.results()
        write_json(output_dir / "curves.json", results)
        if self.tables:
            named = [table.assign(**{"class": name}) for name, table in self.tables.items()]
            write_table(output_dir / "curves.csv", pd.concat(named, ignore_index=True))
            self._plot(output_dir / "curves.png", results)
        return results

    def _results(self, name: str) -> dict[str, Any]:
        table = self.tables[name]
        best = table.loc[table["iou"].idxmax()]
        return {
            "auc": auc(self.counts[name]),
            "highest_iou": {"iou": float(best["iou"]), "threshold": float(best["threshold"])},
            "precision_recall": break_even_point(table, "precision", "recall"),
            "sensitivity_specificity": break_even_point(table, "sensitivity", "specificity"),
        }

    def _plot(self, path: Path, results: Mapping[str, Any]) -> None:
        figure = new_figure(15, 3.4 * len(self.tables))
        rows = figure.subplots(len(self.tables), 4, squeeze=False)
        for axes, (name, table) in zip(rows, self.tables.items(), strict=True):
            for place, drawn in zip(
                axes, (("iou",), ("precision", "recall"), ("sensitivity", "specificity")), strict=False
            ):
                for column in drawn:
                    place.plot(table["threshold"], table[column], label=column)
                place.set(xlabel="threshold", ylim=(0, 1.02), xlim=(0, 1))
                place.legend(loc="lower left", fontsize=8)
                place.grid(alpha=0.3)
            curve = curve_of(self.counts[name])
            assert curve is not None
            axes[3].plot(curve.false_positives, curve.true_positives)
            axes[3].set(xlabel="false positive rate", ylabel="true positive rate", ylim=(0, 1.02), xlim=(0, 1))
            axes[3].set_title(f"area {results[name]['auc']:.4f}", fontsize=10)
            axes[3].grid(alpha=0.3)
            axes[0].set_ylabel(f"{name} against the rest", fontsize=11)
        save_figure(figure, path, dpi=110)

"""Tables and figures of cross-validated diagnosis."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..figures import new_figure, save_figure
from ..files import write_json
from ..reports.scores import write_table
from .crossvalidation import CrossValidationResult
from .tasks import DiagnosisTask

# Classifier, title of the label maps, labels.
Key = tuple[str, str, str]
LABELS = ("all labels", "no stroma")


class DiagnosisReport:
    """Accuracies of all tasks by classifier, label maps and labels.

    Args:
        tasks: name -> task.
        results: task name -> (classifier, title, labels) -> result.
        regions: task name -> answer -> number of regions.
    """

    def __init__(
        self,
        tasks: Mapping[str, DiagnosisTask],
        results: Mapping[str, Mapping[Key, CrossValidationResult]],
        regions: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.tasks, self.results, self.regions = tasks, results, regions

    def table(self) -> pd.DataFrame:
        """Return one row per task and one column per classifier, label maps and labels, and for the pathologists; in
        per cent, with the standard deviation over repetitions (the form of Mehta et al. 2018, Table III)."""
        rows = {}
        for name, task in self.tasks.items():
            row: dict[Key, str] = {}
            for key, one in self.results[name].items():
                row[key] = f"{100 * one.accuracy:.1f} ± {100 * one.deviation:.1f}"
            known = task.pathologists
            row[("pathologists", "", "")] = "" if known is None else f"{100 * known:.0f}"
            rows[name] = row
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.columns = pd.MultiIndex.from_tuples(table.columns)
        return table

    def write(self, output_dir: str | Path) -> dict[str, Any]:
        """Write ``diagnosis.json``, ``diagnosis.csv``, ``diagnosis.png`` and ``confusion_<classifier>_<title>.png``.

        Returns:
            The content of ``diagnosis.json``.
        """
        output_dir = Path(output_dir)
        figures = {name: self._figures(name) for name in self.tasks}
        write_json(output_dir / "diagnosis.json", figures)
        flat = self.table()
        flat.columns = [" ".join(part for part in column if part) for column in flat.columns]
        write_table(output_dir / "diagnosis.csv", flat.rename_axis("task").reset_index())
        self._plot_accuracies(output_dir / "diagnosis.png")
        for kind, title in dict.fromkeys(key[:2] for key in next(iter(self.results.values()))):
            name = re.sub(r"[^\w-]+", "_", f"confusion_{kind}_{title}")
            self._plot_confusions(output_dir / f"{name}.png", kind, title)
        return figures

    def _figures(self, name: str) -> dict[str, Any]:
        results = [
            {
                "classifier": kind,
                "label_maps": title,
                "labels": labels,
                "accuracy": one.accuracy,
                "standard_deviation": one.deviation,
                "mean_recall": one.mean_recall,
                "accuracies": one.accuracies.tolist(),
                "confusion": one.confusion.round(3).tolist(),
            }
            for (kind, title, labels), one in self.results[name].items()
        ]
        task = self.tasks[name]
        regions = dict(self.regions[name])
        return {"answers": task.answers, "regions": regions, "pathologists": task.pathologists, "results": results}

    def _plot_accuracies(self, path: Path) -> None:
        figure, axes = _figure(len(self.tasks), 3.1 * len(self.tasks) + 0.6, 4.2)
        for ax, (name, task) in zip(axes, self.tasks.items(), strict=True):
            keys = list(self.results[name])
            titles = list(dict.fromkeys(key[:2] for key in keys))
            for number, labels in enumerate(LABELS):
                found = [self.results[name].get((*title, labels)) for title in titles]
                places = np.arange(len(titles)) + 0.4 * number - 0.2
                heights = [0.0 if one is None else 100 * one.accuracy for one in found]
                spreads = [0.0 if one is None else 100 * one.deviation for one in found]
                color = ("#4c72b0", "#c9d4e8")[number]
                ax.bar(places, heights, 0.38, yerr=spreads, color=color, edgecolor="#333333", label=labels, capsize=2)
            if task.pathologists is not None:
                ax.axhline(100 * task.pathologists, color="#b03030", linestyle="--", label="pathologists")
            ax.axhline(100 / len(task.answers), color="#888888", linestyle=":", label="chance")
            ax.set_xticks(range(len(titles)), [f"{kind}\n{title}" for kind, title in titles], fontsize=6, rotation=90)
            ax.set_ylim(0, 105)
            ax.set_title(name, fontsize=10)
        axes[0].set_ylabel("accuracy in %, cases never seen")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        _save(figure, path)

    def _plot_confusions(self, path: Path, kind: str, title: str) -> None:
        figure, axes = _figure(len(self.tasks), 3.4 * len(self.tasks), 4.2)
        for ax, (name, task) in zip(axes, self.tasks.items(), strict=True):
            matrix = self.results[name][(kind, title, LABELS[0])].confusion
            shares = matrix / matrix.sum(axis=1, keepdims=True)
            ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for row, column in np.ndindex(matrix.shape):
                color = "white" if shares[row, column] > 0.55 else "black"
                ax.text(column, row, f"{matrix[row, column]:.1f}", ha="center", va="center", color=color, fontsize=8)
            ax.set_xticks(range(len(task.answers)), task.answers, rotation=30, ha="right", fontsize=8)
            ax.set_yticks(range(len(task.answers)), task.answers, fontsize=8)
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("predicted")
        axes[0].set_ylabel("consensus")
        figure.suptitle(f"{title}, {kind}, {LABELS[0]}: regions, mean of the repetitions", fontsize=10)
        _save(figure, path)


def _figure(count: int, width: float, height: float) -> tuple[Any, list[Any]]:
    figure = new_figure(width, height)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, path: Path) -> None:
    save_figure(figure, path)

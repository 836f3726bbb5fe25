"""Write the scores of confusion matrices as JSON, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classes import ClassScheme, hex_color
from ..figures import new_figure, save_figure
from ..files import atomic_write, write_json
from ..metrics.segmentation import matrix_bach_score, scores
from ..slides import file_name
from .spreadsheets import inert_table

METRICS = ("iou", "recall", "precision", "f1")
# Columns of the confusion matrix besides the classes that count.
_OTHERS, _NOT_PREDICTED = "other classes", "not predicted"


class ScoreReport:
    """Results of several slides: over all of them, of each, and of groups of them.

    Args:
        scheme: the classes.
        matrices: confusion matrix of each slide, ``(slides, classes, classes + 1)``.
        data: datalist entry of each slide.
        classes: classes that count; all by default.
        group_by: columns of the entries to group by.
        excluded: number of labelled pixels of each slide that were left out.

    Raises:
        ValueError: an entry lacks a column of ``group_by``.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        matrices: np.ndarray,
        data: Sequence[Mapping[str, Any]],
        classes: Sequence[str] | None = None,
        group_by: Sequence[str] = (),
        excluded: np.ndarray | None = None,
    ) -> None:
        self.scheme, self.matrices, self.classes = scheme, np.asarray(matrices), classes
        files = [file_name(item) for item in data]
        # Several regions of one slide are told apart by their coordinates.
        self.names = [
            f"{name} {item['regions']}" if files.count(name) > 1 and item.get("regions") else name
            for name, item in zip(files, data, strict=True)
        ]
        self.excluded = np.zeros(len(self.names), dtype=np.int64) if excluded is None else excluded
        self.groups: dict[str, dict[str, list[int]]] = {}
        for column in group_by:
            for position, item in enumerate(data):
                if column not in item:
                    raise ValueError(f"{item['image']}: its datalist entry has no column {column!r} to group by")
                self.groups.setdefault(column, {}).setdefault(str(item[column]), []).append(position)

    def results(self) -> dict[str, Any]:
        """Return all results, in the form of ``scores.json``."""
        everything = list(range(len(self.names)))
        return {
            **self._results(everything),
            "classes_counted": list(self.classes) if self.classes is not None else self.scheme.names,
            "confusion_matrix": self._confusion(),
            "slides": [{"slide": name, **self._results([i])} for i, name in enumerate(self.names)],
            "groups": {
                column: {value: self._of_group(members) for value, members in groups.items()}
                for column, groups in self.groups.items()
            },
        }

    def _confusion(self) -> dict[str, Any]:
        """Return the confusion matrix of the classes that count. Predictions of the others share a column."""
        matrix = self.matrices.sum(axis=0)
        counted = np.isin(self.scheme.names, self.scheme.names if self.classes is None else list(self.classes))
        names = [name for name, counts in zip(self.scheme.names, counted, strict=True) if counts]
        rows = matrix[counted]
        predicted = rows[:, :-1]
        columns = dict(zip(names, predicted[:, counted].T, strict=True))
        if not counted.all():
            columns[_OTHERS] = predicted[:, ~counted].sum(axis=1)
        columns[_NOT_PREDICTED] = rows[:, -1]
        pixels = np.stack(list(columns.values()), axis=1)
        return {"rows": "truth", "classes": names, "columns": list(columns), "pixels": pixels.tolist()}

    def write(self, output_dir: str | Path, context_reliance: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Write tables and pictures, and return the results.

        The files are ``scores.json``, ``scores.csv`` (a row per class), ``slides.csv``, ``groups.csv`` (a row per slide
        and group), ``groups.png``, ``confusion.csv`` (pixels), ``context_reliance.csv``, ``confusion.png`` and
        ``classes.png``.
        """
        output_dir = Path(output_dir)
        results = self.results()
        if context_reliance is not None:
            results["context_reliance"] = dict(context_reliance)
            lost = pd.DataFrame(context_reliance.items(), columns=["from elsewhere", "mean IoU lost"])
            write_table(output_dir / "context_reliance.csv", lost)
        write_json(output_dir / "scores.json", results)
        write_table(output_dir / "scores.csv", class_table(results))
        write_table(output_dir / "slides.csv", _rows([("slide", row["slide"], row) for row in results["slides"]]))
        if self.groups:
            groups = [(c, value, row) for c, values in results["groups"].items() for value, row in values.items()]
            write_table(output_dir / "groups.csv", _rows(groups))
            plot_groups(results["groups"], self.scheme, output_dir / "groups.png")
        matrix = pd.DataFrame(results["confusion_matrix"]["pixels"], columns=results["confusion_matrix"]["columns"])
        matrix.insert(0, "true", results["confusion_matrix"]["classes"])
        write_table(output_dir / "confusion.csv", matrix)
        plot_confusion(results["confusion_matrix"], output_dir / "confusion.png")
        plot_classes({"": results}, self.scheme, output_dir / "classes.png")
        return results

    def _of_group(self, members: Sequence[int]) -> dict[str, Any]:
        """Return a group's results with each class's lowest and highest IoU of a slide (None if no slide has it)."""
        slides = [self._results([member])["classes"] for member in members]
        ranges = {}
        for name in slides[0]:
            ious = [row[name]["iou"] for row in slides if row[name]["iou"] is not None]
            ranges[name] = [min(ious), max(ious)] if ious else None
        return {**self._results(members), "iou_of_slides": ranges}

    def _results(self, members: Sequence[int]) -> dict[str, Any]:
        matrix = self.matrices[members].sum(axis=0)
        found = scores(matrix, self.scheme.names, self.classes)
        left_out = int(self.excluded[members].sum())
        if self.scheme.ordinal:
            counted = np.isin(self.scheme.names, self.classes or self.scheme.names)[:, None]
            found["bach_score"] = matrix_bach_score(np.where(counted, matrix, 0)) if found["labelled_pixels"] else None
        return {**found, "slide_count": len(members), "excluded_pixels": left_out}


def _rows(named: Sequence[tuple[str, str, Mapping[str, Any]]]) -> pd.DataFrame:
    rows = []
    for column, value, results in named:
        ious = {f"IoU {name}": row["iou"] for name, row in results["classes"].items()}
        means = {f"mean {metric}": results[f"mean_{metric}"] for metric in METRICS}
        counts = {key: results[key] for key in ("pixel_accuracy", "slide_count", "labelled_pixels", "excluded_pixels")}
        ranges = {
            f"{end} IoU {name} of a slide": found[place] if found else None
            for name, found in results.get("iou_of_slides", {}).items()
            for place, end in enumerate(("lowest", "highest"))
        }
        rows.append({"by": column, "value": value, **means, **ious, **counts, **score_column(results), **ranges})
    return pd.DataFrame(rows)


def score_column(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of the BACH challenge as a column, if classes are grades."""
    return {"BACH score": results["bach_score"]} if "bach_score" in results else {}


def class_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table with one row per class and one of means."""
    rows = [
        {"class": name, **{f: row[f] for f in (*METRICS, "labelled_pixels")}}
        for name, row in results["classes"].items()
    ]
    means = {metric: results[f"mean_{metric}"] for metric in METRICS}
    return pd.DataFrame([*rows, {"class": "mean", **means, "labelled_pixels": results["labelled_pixels"]}])


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV; no spreadsheet runs one of its cells as a formula."""
    with atomic_write(path) as partial:
        inert_table(table).to_csv(partial, index=False, errors="backslashreplace")


def plot_confusion(confusion: Mapping[str, Any], path: str | Path) -> None:
    """Draw the confusion matrix, each row as shares of the true class (the form of the paper's Figures 12 and 13).

    Args:
        confusion: ``classes``, ``columns`` and ``pixels`` (classes by columns), as ``scores.json`` has them.
        path: the picture.
    """
    names, matrix = confusion["classes"], np.asarray(confusion["pixels"])
    total = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    drawn = [column in names or bool(matrix[:, place].any()) for place, column in enumerate(confusion["columns"])]
    columns = [column for column, keep in zip(confusion["columns"], drawn, strict=True) if keep]
    shares = shares[:, drawn]
    figure = new_figure(1.6 + 0.95 * len(columns), 1.4 + 0.75 * len(names))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(names)):
        for column in range(len(columns)):
            text = "–" if total[row, 0] == 0 else f"{shares[row, column]:.3f}"
            axes.text(
                column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black"
            )
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("share of the true class's labelled pixels", fontsize=10)
    save_figure(figure, path)


def plot_groups(groups: Mapping[str, Mapping[str, Any]], scheme: ClassScheme, path: str | Path) -> None:
    """Draw the IoU of every class in every group, with a line from the lowest to the highest of its slides (the form of
    Modi et al. 2024, Table 3).

    Args:
        groups: column -> value -> results of :meth:`ScoreReport.results`.
        scheme: the classes.
        path: picture to write.
    """
    from matplotlib.lines import Line2D

    most = max(len(values) for values in groups.values())
    figure = new_figure(1.5 + max(4.0, 1.3 * most), 3.2 * len(groups))
    for axes, (column, values) in zip(
        figure.subplots(len(groups), 1, squeeze=False)[:, 0], groups.items(), strict=True
    ):
        for number, tissue_class in enumerate(scheme.classes):
            color = tuple(channel / 255 for channel in tissue_class.color)
            for place, found in enumerate(values.values()):
                iou = (found["classes"].get(tissue_class.name) or {}).get("iou")
                ends = found["iou_of_slides"].get(tissue_class.name)
                at = place + (number - (len(scheme) - 1) / 2) * 0.7 / len(scheme)
                if ends is not None:
                    axes.plot([at, at], ends, color=color, linewidth=2, alpha=0.5)
                if iou is not None:
                    axes.plot(at, iou, marker="o", color=color)
        slides = [f"{value}\n{found['slide_count']} slides" for value, found in values.items()]
        axes.set_xticks(range(len(slides)), slides, fontsize=8)
        axes.set(ylabel="IoU", ylim=(0, 1), title=f"by {column}: all pixels, and the range of single slides")
        axes.grid(axis="y", alpha=0.3)
    # Outside the axes, where there are no points; with every class, even one that no slide has.
    figure.legend(
        handles=[
            Line2D([], [], marker="o", color=hex_color(tissue_class.color), label=tissue_class.name)
            for tissue_class in scheme.classes
        ],
        loc="outside upper center",
        ncols=min(len(scheme), 4),
        fontsize=8,
    )
    save_figure(figure, path)


def plot_classes(runs: Mapping[str, Mapping[str, Any]], scheme: ClassScheme, path: str | Path) -> None:
    """Draw F1, IoU and pixel accuracy (the share of a class's pixels that were found) of every class, one bar per run
    (the form of Mehta et al. 2018, Fig. 11).

    Args:
        runs: title -> results of :meth:`ScoreReport.results`.
        scheme: the classes, whose colours the bars of a single run have.
        path: picture to write.
    """
    from matplotlib import colormaps

    names = [name for name in scheme.names if any(name in results["classes"] for results in runs.values())]
    figure = new_figure(2.4 + (0.5 + 0.22 * len(runs)) * len(names), 6.4)
    own = [tuple(part / 255 for part in scheme.by_name(name).color) for name in names]
    width, places = 0.8 / len(runs), np.arange(len(names))
    panels = {"f1": "F1", "iou": "IoU", "recall": "pixel accuracy"}
    for axes, (key, title) in zip(figure.subplots(len(panels), 1, sharex=True), panels.items(), strict=True):
        for number, (run, results) in enumerate(runs.items()):
            values = [(results["classes"].get(name) or {}).get(key) for name in names]
            heights = [np.nan if value is None else value for value in values]
            shift = (number - (len(runs) - 1) / 2) * width
            color = own if len(runs) == 1 else [colormaps["tab10"](number % 10)] * len(names)
            axes.bar(places + shift, heights, width, color=color, edgecolor="black", linewidth=0.4, label=run)
        axes.set_ylim(0, 1)
        axes.set_ylabel(title)
        axes.grid(axis="y", alpha=0.3)
    axes.set_xticks(places, names, rotation=30, ha="right")
    if len(runs) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(runs), 4), fontsize=8
        )
    save_figure(figure, path)

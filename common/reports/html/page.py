"""Write the page: the contents of a folder of results in one file that needs no network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from tqdm import tqdm

from ...data import SlideDataset
from ...files import PARTIAL, atomic_write
from ..spreadsheets import inert_cell, original_cell
from .curves import plotted, training_curves
from .slides import SUMMARY, SlideView, file_uri, slide_view

_HERE = Path(__file__).resolve().parent
_SCORES, _EVENTS = "scores.json", "events.out.tfevents.*"
_PICTURES = (".png", ".jpg", ".jpeg")
_CACHE = "patch_index"
# Shown in a slide's viewer.
_OF_SLIDES = frozenset({"overlay.png"})
# Rows and bytes above which a table or picture stays a file.
_MOST_ROWS, _MOST_BYTES = 200, 8 * 10**6


@dataclass(frozen=True)
class Picture:
    """A picture of the run.

    Attributes:
        title: path in the run's folder.
        uri: data URI of the picture.
    """

    title: str
    uri: str


@dataclass(frozen=True)
class Scores:
    """The scores of an evaluation.

    Attributes:
        title: folder of the evaluation.
        results: content of ``scores.json``.
        pictures: confusion matrix, ROC, classes, groups.
    """

    title: str
    results: Mapping[str, Any]
    pictures: list[Picture]


@dataclass(frozen=True)
class Table:
    """A table of the run.

    Attributes:
        title: path in the run's folder.
        columns: names of the columns.
        rows: cells as text.
        left_out: number of rows that are only in the file.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    left_out: int


def write_report(
    output_dir: str | Path,
    out: str | Path | None = None,
    slides: str | None = None,
    name_by: str | None = None,
    longest: int = 2000,
    mpp: float | None = None,
    series: int | None = None,
) -> Path:
    """Write ``report.html``, a page on a run.

    It shows slides that zoom, with their classes over them; area per class; scores, confusion matrix, ROC and training
    curves, comparisons and every other picture; and settings and versions.

    Args:
        output_dir: output folder of inference.yaml, evaluate.yaml, train.yaml or ``compare``, or one with several.
        out: page to write; by default ``report.html`` in that folder.
        slides: the segmented slides (path, glob, datalist), to show their pixels below the classes. By default the
            run's overlays are shown.
        name_by: column of the datalist that named the slides' folders, if one did.
        longest: longest side of a slide's picture, in pixels.
        mpp, series: µm/px and image of slides whose entry has none; see :class:`SlideDataset`.

    Returns:
        path of the page.

    Raises:
        ValueError: there is no such folder, or nothing in it to show.
    """
    folder = Path(output_dir)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    items = _by_name(SlideDataset(slides, mpp=mpp, name_by=name_by, series=series)) if slides else {}
    problems = _Problems()
    shown = _views(folder, items, max(longest, 1), problems)
    scores, curves = _scores(folder, problems), _trainings(folder, problems)
    taken = {picture.title for one in scores for picture in one.pictures}
    pictures, tables = _pictures(folder, taken), _tables(folder, problems)
    if not (shown or scores or curves or pictures):
        odd = "".join(f"; {problem}" for problem in problems)
        raise ValueError(f"{folder}: nothing to show. It must hold results of inference, evaluation or training{odd}")
    page = _render(
        title=folder.resolve().name,
        views=shown,
        classes=list(dict.fromkeys(name for view in shown for name in view.areas)),
        problems=problems,
        scores=scores,
        trainings=curves,
        pictures=pictures,
        tables=tables,
        unfinished=_unfinished(folder),
        banners=_banners(shown),
    )
    out = Path(out) if out is not None else folder / "report.html"
    with atomic_write(out) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return out


def _by_name(slides: SlideDataset) -> dict[str, dict[str, Any]]:
    items = [slides[number] for number in range(len(slides))]
    return {item["name"]: item for item in items}


def _render(**content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    # Tables are copied into spreadsheets, which would run names that begin like a formula.
    environment.filters["cell"] = inert_cell
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(style=style, script=script, **content)


def _found(folder: Path, pattern: str) -> list[Path]:
    """Return a run's files and folders that match, but none in a cache, in an array's folder, or left unfinished."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [Path(place) / name for name in (*folders, *files) if fnmatch(name, pattern)]
        folders[:] = [
            name
            for name in folders
            if not (name.startswith((PARTIAL, ".")) or name.endswith(".zarr") or name == _CACHE)
        ]
    return sorted(found)


class _Problems(list[str]):
    """Files that could not be shown; one bad file does not keep the others from the page."""

    def of(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """Return the result of ``read`` on a file; if it fails, note the file and return None."""
        try:
            return read(path)
        except Exception as error:
            self.append(f"{path}: {str(error) or type(error).__name__}")
            return None


def _views(folder: Path, items: Mapping[str, Mapping[str, Any]], longest: int, problems: _Problems) -> list[SlideView]:
    def looked_at(path: Path) -> SlideView:
        return slide_view(path.parent, path.parent.relative_to(folder).as_posix(), items, longest)

    paths = tqdm(_found(folder, SUMMARY), desc="slides", leave=False)
    return [view for view in (problems.of(path, looked_at) for path in paths) if view is not None]


def _banners(views: Sequence[SlideView]) -> list[str]:
    """Return warnings to show above all results: slides whose classes mean nothing for the tissue."""
    slides: dict[str, list[str]] = {}
    for view in views:
        if view.synthetic:
            slides.setdefault(view.weights_note, []).append(view.name)
    return [
        note if len(names) == len(views) else f"{note} This concerns {', '.join(names)}."
        for note, names in slides.items()
    ]


def _unfinished(folder: Path) -> list[str]:
    return [str(path.parent.relative_to(folder)) for path in _found(folder, ".unfinished")]


def _scores(folder: Path, problems: _Problems) -> list[Scores]:
    found = []
    for path in _found(folder, _SCORES):
        results = problems.of(path, _results)
        if results is None:
            continue
        shown = [one for one in sorted(path.parent.iterdir()) if one.suffix in _PICTURES and one.name not in _OF_SLIDES]
        pictures = [Picture(one.relative_to(folder).as_posix(), file_uri(one)) for one in shown]
        found.append(Scores(path.parent.relative_to(folder).as_posix(), results, pictures))
    return found


def _results(path: Path) -> dict[str, Any]:
    results = json.loads(path.read_text(encoding="utf-8"))
    wanted = ("mean_iou", "pixel_accuracy", "labelled_pixels", "classes")
    missing = [key for key in wanted if key not in results]
    if missing:
        raise ValueError(f"no scores of evaluate.yaml: without {missing[0]}")
    return results


def _trainings(folder: Path, problems: _Problems) -> list[Picture]:
    found = []
    for one in dict.fromkeys(path.parent for path in _found(folder, _EVENTS)):
        curves = problems.of(one, training_curves)
        if curves:
            found.append(Picture(one.relative_to(folder).as_posix(), plotted(curves)))
    return found


def _pictures(folder: Path, taken: set[str]) -> list[Picture]:
    found = []
    for path in _found(folder, "*"):
        title = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in _PICTURES or path.name in _OF_SLIDES or title in taken:
            continue
        if path.is_file() and path.stat().st_size <= _MOST_BYTES:
            found.append(Picture(title, file_uri(path)))
    return found


def _tables(folder: Path, problems: _Problems) -> list[Table]:
    """Return tables that are not part of an evaluation, whose results are shown from ``scores.json``."""
    scored = {path.parent for path in _found(folder, _SCORES)}
    found = []
    for path in _found(folder, "*.csv"):
        table = problems.of(path, pd.read_csv) if path.parent not in scored else None
        if table is None:
            continue
        rows = [[_text(value) for value in row] for row in table.head(_MOST_ROWS).itertuples(index=False)]
        title = path.relative_to(folder).as_posix()
        found.append(Table(title, [_text(name) for name in table.columns], rows, max(0, len(table) - _MOST_ROWS)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    # Cells of our own tables are inert already.
    return str(inert_cell(original_cell(value)))

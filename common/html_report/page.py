"""The page: what a folder of results holds, in one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from tqdm import tqdm

from ..data import SlideDataset
from ..files import PARTIAL, written_whole
from .curves import plotted, training_curves
from .slides import SUMMARY, SlideView, file_uri, slide_view

_HERE = Path(__file__).resolve().parent
_SCORES, _EVENTS = "scores.json", "events.out.tfevents.*"
_PICTURES = (".png", ".jpg", ".jpeg")
# Shown in a slide's viewer.
_OF_SLIDES = frozenset({"overlay.png"})
# Rows and bytes above which a table or picture stays a file.
_MOST_ROWS, _MOST_BYTES = 200, 8 * 10**6


@dataclass(frozen=True)
class Picture:
    """A picture of the run.

    Attributes:
        title: its path in the run's folder.
        uri: the picture.
    """

    title: str
    uri: str


@dataclass(frozen=True)
class Scores:
    """An evaluation.

    Attributes:
        title: its folder.
        figures: of ``scores.json``.
        pictures: confusion matrix, ROC, classes, groups.
    """

    title: str
    figures: Mapping[str, Any]
    pictures: list[Picture]


@dataclass(frozen=True)
class Table:
    """A table of the run.

    Attributes:
        title: its path in the run's folder.
        columns: their names.
        rows: as text.
        left_out: rows that are only in the file.
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
) -> Path:
    """Write ``report.html``: slides with their classes laid over, which zoom; area per class; scores, confusion matrix,
    ROC and training curves, comparisons and every other picture; settings and what made it all.

    Args:
        output_dir: a run's folder: of inference.yaml, evaluate.yaml, train.yaml, ``compare``, or one with several.
        out: the page; ``report.html`` in the folder by default.
        slides: the segmented slides, as inference.yaml takes them (path, glob, datalist): their pixels are shown below
            the classes. Without, the overlays that were written are shown.
        name_by: column of the datalist that named the slides' folders, if one did.
        longest: side in pixels of a slide's picture.

    Returns:
        the page.

    Raises:
        ValueError: there is no such folder, or nothing in it to show.
    """
    folder = Path(output_dir)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    items = _by_name(SlideDataset(slides, name_by=name_by)) if slides else {}
    shown = _views(folder, items, longest)
    scores, curves = _scores(folder), _trainings(folder)
    taken = {picture.title for one in scores for picture in one.pictures}
    pictures, tables = _pictures(folder, taken), _tables(folder)
    if not (shown or scores or curves or pictures):
        raise ValueError(f"{folder}: nothing to show. It must hold results of inference, evaluation or training")
    page = _render(
        title=folder.resolve().name,
        views=shown,
        scores=scores,
        trainings=curves,
        pictures=pictures,
        tables=tables,
        unfinished=_unfinished(folder),
    )
    out = Path(out) if out is not None else folder / "report.html"
    with written_whole(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def _by_name(slides: SlideDataset) -> dict[str, dict[str, Any]]:
    items = [slides[number] for number in range(len(slides))]
    return {item["name"]: item for item in items}


def _render(**content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(style=style, script=script, **content)


def _found(folder: Path, pattern: str) -> list[Path]:
    """Files of a run, but none that a stopped one was writing."""
    paths = sorted(folder.rglob(pattern))
    return [path for path in paths if not any(part.startswith(PARTIAL) for part in path.relative_to(folder).parts)]


def _views(folder: Path, items: Mapping[str, Mapping[str, Any]], longest: int) -> list[SlideView]:
    of_slides = [path.parent for path in _found(folder, SUMMARY) if "label_map" in json.loads(path.read_text("utf-8"))]
    return [slide_view(one, items, longest) for one in tqdm(of_slides, desc="slides", leave=False)]


def _unfinished(folder: Path) -> list[str]:
    return [str(path.parent.relative_to(folder)) for path in _found(folder, ".unfinished")]


def _scores(folder: Path) -> list[Scores]:
    found = []
    for path in _found(folder, _SCORES):
        beside = [one for one in sorted(path.parent.iterdir()) if one.suffix in _PICTURES]
        shown = [one for one in beside if one.name not in _OF_SLIDES]
        pictures = [Picture(one.relative_to(folder).as_posix(), file_uri(one)) for one in shown]
        figures = json.loads(path.read_text(encoding="utf-8"))
        found.append(Scores(path.parent.relative_to(folder).as_posix(), figures, pictures))
    return found


def _trainings(folder: Path) -> list[Picture]:
    found = []
    for one in dict.fromkeys(path.parent for path in _found(folder, _EVENTS)):
        curves = training_curves(one)
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


def _tables(folder: Path) -> list[Table]:
    """Tables that are no part of an evaluation, whose figures are shown from ``scores.json``, nor of a cache."""
    scored = {path.parent for path in _found(folder, _SCORES)}
    found = []
    for path in _found(folder, "*.csv"):
        if path.parent in scored or "patch_index" in path.parts:
            continue
        table = pd.read_csv(path)
        rows = [[_text(value) for value in row] for row in table.head(_MOST_ROWS).itertuples(index=False)]
        title = path.relative_to(folder).as_posix()
        found.append(Table(title, [str(name) for name in table.columns], rows, max(0, len(table) - _MOST_ROWS)))
    return found


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

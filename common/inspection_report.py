"""``python -m common inspect``: prints what was found, and writes the table and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .classes import ClassScheme
from .configs import bundle_settings
from .data import all_sections, load_sections
from .data.datalist import SECTIONS
from .data.inspection import InspectedSlide, Inspection, inspect_datalist
from .files import written_whole
from .outputs.contact_sheet import contact_sheet
from .outputs.overlay import blend
from .reports import write_table

_KEYS = ("scheme", "fields_of_view", "target", "min_labelled", "allow_missing")


def report(datalist: str, out: str, bundle: str, configs: Sequence[str], patches: int, by: Sequence[str] = ()) -> bool:
    """Inspect a datalist; whether it is sound."""
    settings = bundle_settings(bundle, configs, _KEYS)
    found = inspect_datalist(datalist, **settings, patches=patches)
    scheme, folder = settings["scheme"], Path(out)
    table = found.table(scheme)
    with written_whole(folder / "slides.csv") as partial:
        table.to_csv(partial, index=False)
    with written_whole(folder / "contact_sheet.png") as partial:
        contact_sheet([_cell(slide, scheme) for slide in found.slides], scheme).save(partial)
    if by:
        write_distribution(folder, found, datalist, scheme, by)
    print(table.drop(columns=["problems", "height", "width", "read by"]).to_string(index=False))
    _print_sums(found, scheme)
    for problem in [*(p for slide in found.slides for p in slide.problems), *found.problems]:
        print(f"! {problem}")
    print(f"{'nothing wrong' if found.sound else 'see the lines with !'}; {folder / 'contact_sheet.png'}, slides.csv")
    return found.sound


def write_distribution(
    folder: Path, found: Inspection, datalist: str, scheme: ClassScheme, by: Sequence[str]
) -> pd.DataFrame:
    """Write how many slides and mm² of each class every section has, for each value of some columns:
    ``distribution.csv`` and ``distribution.png``.

    Raises:
        ValueError: no slide has a column.
    """
    inspected = [(slide.section, slide.entry, slide.annotated) for slide in found.slides]
    # Slides that nobody annotated are learnt from, too: see iterative training.
    others = [name for name in all_sections(datalist) if name not in SECTIONS]
    inspected += [(name, item, {}) for name in others for item in load_sections(datalist, [name])]
    rows = []
    for column in by:
        if not any(column in item for _, item, _ in inspected):
            raise ValueError(f"{datalist}: no slide has the column {column!r}")
        for section, item, annotated in inspected:
            areas = {f"{name} mm²": annotated.get(name, 0.0) for name in scheme.names}
            value = str(item.get(column))
            rows.append({"column": column, "value": value, "section": section, "slides": 1, **areas})
    table = pd.DataFrame(rows).groupby(["column", "value", "section"], sort=True).sum().reset_index()
    write_table(folder / "distribution.csv", table)
    _plot_distribution(folder / "distribution.png", table, scheme, by)
    return table


def _plot_distribution(path: Path, table: pd.DataFrame, scheme: ClassScheme, by: Sequence[str]) -> None:
    """A row of bars per column: for each value and section the mm² of each class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sections = sorted(
        set(table["section"]), key=lambda name: SECTIONS.index(name) if name in SECTIONS else len(SECTIONS)
    )
    figure = Figure(figsize=(5.2 * len(sections), 3.2 * len(by)), layout="constrained")
    FigureCanvasAgg(figure)
    for line, column in zip(figure.subplots(len(by), len(sections), squeeze=False), by, strict=True):
        for axes, section in zip(line, sections, strict=True):
            part = table[(table["column"] == column) & (table["section"] == section)]
            bottom = np.zeros(len(part))
            for tissue in scheme.classes:
                area = part[f"{tissue.name} mm²"].to_numpy()
                color = tuple(channel / 255 for channel in tissue.color)
                axes.bar(part["value"], area, bottom=bottom, color=color, label=tissue.name)
                bottom += area
            for place, (height, slides) in enumerate(zip(bottom, part["slides"], strict=True)):
                axes.annotate(f"{slides} slides", (place, height), ha="center", va="bottom", fontsize=7)
            axes.set_title(f"{section} by {column}", fontsize=10)
            axes.set_ylabel("annotated mm²")
            axes.set_ylim(0, max(1.15 * bottom.max(initial=0.0), 0.01))
    figure.axes[0].legend(fontsize=8)
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _print_sums(found: Inspection, scheme: ClassScheme) -> None:
    sections = dict.fromkeys(slide.section for slide in found.slides)
    for section in sections:
        slides = [slide for slide in found.slides if slide.section == section]
        areas = (f"{name} {sum(s.annotated.get(name, 0.0) for s in slides):.3f}" for name in scheme.names)
        print(f"{section}: {len(slides)} slides, {sum(s.targets for s in slides)} targets, mm²: {', '.join(areas)}")


def _cell(slide: InspectedSlide, scheme: ClassScheme) -> tuple[np.ndarray | None, list[str]]:
    picture = slide.thumbnail
    if picture is not None and slide.labels is not None:
        picture = blend(picture, slide.labels, scheme, opacity=0.6)
    size = f"{slide.shape[0]} x {slide.shape[1]} at {slide.mpp:.4g} µm/px" if slide.shape else "cannot be opened"
    areas = ", ".join(f"{name} {area:.2f}" for name, area in slide.annotated.items() if area)
    lines = [f"{slide.section}: {slide.name}", size, f"{slide.targets} targets, mm²: {areas or 'nothing'}"]
    return picture, [*lines, *(f"! {problem}" for problem in slide.problems)]

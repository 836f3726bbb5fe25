"""Print the findings of ``multimag inspect``, and write its table and contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from monai.bundle import ConfigParser

from ..bundle.find import find_bundle
from ..bundle.parser import bundle_parser
from ..classes import ClassScheme
from ..data import MultiMagnificationPatchDataset, load_sections, section_names
from ..data.datalist import SECTIONS
from ..data.inspection import InspectedSlide, Inspection, PatchSettings, inspect_datalist
from ..figures import new_figure, save_figure
from ..files import atomic_write, printable, printable_line
from ..outputs.contact_sheet import contact_sheet
from ..outputs.overlay import blend
from ..renamed_keys import spelling_in
from .scores import write_table

_NOT_PRINTED = ("stops training", "advice", "height", "width", "read by")
_MOST_SHOWN = 20
_OPACITY = 0.6


def report(
    datalist: str | Path,
    output: str | Path,
    bundle: str | Path,
    configs: Sequence[str],
    patches: int = 16,
    by: Sequence[str] = (),
) -> bool:
    """Inspect a datalist, print the findings and write the table and the pictures.

    Args:
        datalist: path of the datalist.
        output: folder to write to.
        bundle: folder or name of the bundle to be trained.
        configs: configs of the bundle, train.yaml first.
        patches: see :func:`inspect_datalist`.
        by: columns of the datalist to count slides and areas by.

    Returns:
        True if nothing stops training.
    """
    parser = bundle_parser(bundle, configs)
    scheme, folder = parser.get_parsed_content("scheme"), Path(output)
    found = inspect_datalist(
        datalist,
        scheme,
        _patch_settings(parser, "train"),
        _patch_settings(parser, "validate"),
        patches,
        owner=find_bundle(bundle).resolve().name,
        count_batches=lambda dataset: _count_batches(parser, dataset),
    )
    table = found.table(scheme)
    write_table(folder / "slides.csv", table)
    with atomic_write(folder / "contact_sheet.png") as partial:
        contact_sheet([_cell(slide, scheme) for slide in found.slides], scheme, opacity=_OPACITY).save(partial)
    if by:
        write_distribution(folder, found, datalist, scheme, by)
    print(printable(table.drop(columns=list(_NOT_PRINTED)).to_string(index=False)))
    _print_sums(found, scheme)
    _print_findings(found, folder)
    return found.can_train


def _patch_settings(parser: ConfigParser, section: str) -> PatchSettings:
    """Return the configs' settings for the patches of a section (``train`` or ``validate``)."""
    place = f"{section}#dataset"
    spelt = {one.name: spelling_in(f"{place}#{one.name}", parser.get()) for one in fields(PatchSettings)}
    return PatchSettings(**{name: parser.get_parsed_content(at) for name, at in spelt.items() if at in parser})


def _count_batches(parser: ConfigParser, dataset: MultiMagnificationPatchDataset) -> int:
    """Return how many batches an epoch of training has, from the configs' own sampler and loader.

    Raises:
        ValueError: the sampler or loader refuses these patches.
    """
    parser["train#dataset"] = dataset
    parser["num_workers"] = 0
    try:
        return len(parser.get_parsed_content("train#dataloader"))
    except RuntimeError as error:
        # MONAI wraps the errors of a component.
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, ValueError):
            cause = cause.__cause__
        if isinstance(cause, ValueError):
            raise cause from error
        raise


def _print_findings(found: Inspection, folder: Path) -> None:
    """Print the problems that stop training, the advice, the files with the rest, and the verdict."""
    for heading, findings in (("stops training:", found.all_stops), ("advice:", found.all_advice)):
        shown = [f"  {printable_line(text)}" for text in findings[:_MOST_SHOWN]]
        if len(findings) > _MOST_SHOWN:
            shown.append(f"  and {len(findings) - _MOST_SHOWN} more, of single slides: see slides.csv")
        print("\n".join(["", heading, *(shown or ["  nothing"])]))
    print(f"\n{folder / 'contact_sheet.png'}, and a row per slide in slides.csv")
    stops, advice = len(found.all_stops), len(found.all_advice)
    if stops:
        print(f"verdict: training would stop ({_counted(stops, 'finding')}). Correct it and inspect again")
    else:
        print(f"verdict: nothing stops training ({_counted(advice, 'piece')} of advice)")


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def write_distribution(
    folder: Path, found: Inspection, datalist: str | Path, scheme: ClassScheme, by: Sequence[str]
) -> pd.DataFrame:
    """Write the slides and mm² of each class in every section, for each value of some columns, to ``distribution.csv``
    and ``distribution.png``.

    Raises:
        ValueError: no slide has one of the columns.
    """
    inspected = [(slide.section, slide.entry, slide.annotated) for slide in found.slides]
    # Iterative training also learns from slides without annotation.
    others = [name for name in section_names(datalist) if name not in SECTIONS]
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
    """Draw a row of bars per column: for each value and section the mm² of each class."""
    sections = sorted(
        set(table["section"]), key=lambda name: SECTIONS.index(name) if name in SECTIONS else len(SECTIONS)
    )
    figure = new_figure(5.2 * len(sections), 3.2 * len(by))
    for line, column in zip(figure.subplots(len(by), len(sections), squeeze=False), by, strict=True):
        for axes, section in zip(line, sections, strict=True):
            part = table[(table["column"] == column) & (table["section"] == section)]
            bottom = np.zeros(len(part))
            for tissue_class in scheme.classes:
                area = part[f"{tissue_class.name} mm²"].to_numpy()
                color = tuple(channel / 255 for channel in tissue_class.color)
                axes.bar(part["value"], area, bottom=bottom, color=color, label=tissue_class.name)
                bottom += area
            for place, (height, slides) in enumerate(zip(bottom, part["slides"], strict=True)):
                axes.annotate(f"{slides} slides", (place, height), ha="center", va="bottom", fontsize=7)
            axes.set_title(f"{section} by {column}", fontsize=10)
            axes.set_ylabel("annotated mm²")
            axes.set_ylim(0, max(1.15 * bottom.max(initial=0.0), 0.01))
    figure.axes[0].legend(fontsize=8)
    save_figure(figure, path, dpi=110)


def _print_sums(found: Inspection, scheme: ClassScheme) -> None:
    sections = dict.fromkeys(slide.section for slide in found.slides)
    for section in sections:
        slides = [slide for slide in found.slides if slide.section == section]
        areas = (f"{name} {sum(s.annotated.get(name, 0.0) for s in slides):.3f}" for name in scheme.names)
        print(f"{section}: {len(slides)} slides, {sum(s.targets for s in slides)} targets, mm²: {', '.join(areas)}")


def _cell(slide: InspectedSlide, scheme: ClassScheme) -> tuple[np.ndarray | None, list[str]]:
    """Return a slide's picture and the lines below it; problems that stop training begin with "!"."""
    picture = slide.thumbnail
    if picture is not None and slide.labels is not None:
        picture = blend(picture, slide.labels, scheme, opacity=_OPACITY)
    size = f"{slide.shape[0]} x {slide.shape[1]} at {slide.mpp:.4g} µm/px" if slide.shape else "cannot be opened"
    areas = ", ".join(f"{name} {area:.2f}" for name, area in slide.annotated.items() if area)
    lines = [f"{slide.section}: {slide.name}", size, f"{slide.targets} targets, mm²: {areas or 'nothing'}"]
    findings = [*(f"! stops training: {text}" for text in slide.stops), *(f"advice: {text}" for text in slide.advice)]
    return picture, [*lines, *findings]

"""``python -m common inspect``: prints what was found, and writes the table and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .classes import ClassScheme
from .configs import bundle_settings
from .data.inspection import InspectedSlide, Inspection, inspect_datalist
from .files import written_whole
from .outputs.contact_sheet import contact_sheet
from .outputs.overlay import blend

_KEYS = ("scheme", "fields_of_view", "target", "min_labelled", "allow_missing")


def report(datalist: str, out: str, bundle: str, configs: Sequence[str], patches: int) -> bool:
    """Inspect a datalist; whether it is sound."""
    settings = bundle_settings(bundle, configs, _KEYS)
    found = inspect_datalist(datalist, **settings, patches=patches)
    scheme, folder = settings["scheme"], Path(out)
    table = found.table(scheme)
    with written_whole(folder / "slides.csv") as partial:
        table.to_csv(partial, index=False)
    with written_whole(folder / "contact_sheet.png") as partial:
        contact_sheet([_cell(slide, scheme) for slide in found.slides], scheme).save(partial)
    print(table.drop(columns=["problems", "height", "width", "read by"]).to_string(index=False))
    _print_sums(found, scheme)
    for problem in [*(p for slide in found.slides for p in slide.problems), *found.problems]:
        print(f"! {problem}")
    print(f"{'nothing wrong' if found.sound else 'see the lines with !'}; {folder / 'contact_sheet.png'}, slides.csv")
    return found.sound


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

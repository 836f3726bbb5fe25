"""Looks a datalist over before anything is trained on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..annotations import Annotations
from ..classes import ClassScheme
from ..errors import UnreadableFileError
from ..slides import FieldOfView, PatchReader, Slide
from .datalist import SECTIONS, load_datalist
from .index import build_patch_index
from .store import SlideStore

logger = logging.getLogger(__name__)
_SCANNER_KEYS = ("openslide.vendor", "Make", "Model", "ScanScope ID", "aperio.ScanScope ID", "hamamatsu.Product")
# Below this many labelled pixels of a class, what is learnt of it is one structure.
_FEW_TARGETS = 3
# Hand-drawn outlines run over the slide's edge a little.
_MOST_OUTSIDE = 0.02


@dataclass
class InspectedSlide:
    """One entry of a datalist as training will see it.

    Attributes:
        section, name: where it stands and what it is called.
        shape: height and width at level 0, pixels.
        mpp: µm per pixel as read.
        scanner: what the file says of it.
        backend: the library that reads it.
        targets: how many are kept.
        annotated: mm² per class on the kept targets.
        thumbnail, labels: ``(h, w, 3)`` and ``(h, w)`` uint8 of the whole slide, None where it cannot be read.
        problems: what is wrong, in sentences.
        entry: the datalist's.
    """

    section: str
    name: str
    shape: tuple[int, int] | None = None
    mpp: float | None = None
    scanner: str = ""
    backend: str = ""
    targets: int = 0
    annotated: dict[str, float] = field(default_factory=dict)
    thumbnail: np.ndarray | None = None
    labels: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)
    entry: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Inspection:
    """All slides of a datalist, and what concerns several of them."""

    slides: list[InspectedSlide]
    problems: list[str]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems and not any(slide.problems for slide in self.slides)

    def table(self, scheme: ClassScheme) -> pd.DataFrame:
        """One row per slide."""
        rows = [
            {
                "section": s.section,
                "slide": s.name,
                "µm/px": None if s.mpp is None else round(s.mpp, 4),
                "height": s.shape[0] if s.shape else None,
                "width": s.shape[1] if s.shape else None,
                "scanner": s.scanner,
                "read by": s.backend,
                "targets": s.targets,
                **{f"{name} mm²": round(s.annotated.get(name, 0.0), 4) for name in scheme.names},
                "problems": "; ".join(s.problems),
            }
            for s in self.slides
        ]
        return pd.DataFrame(rows)


def inspect_datalist(
    path: str | Path,
    scheme: ClassScheme,
    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
    target: FieldOfView | Mapping[str, Any],
    min_labelled: float = 0.01,
    snap: float = 0.03,
    patches: int = 16,
    thumbnail: int = 480,
    allow_missing: Sequence[str] = (),
) -> Inspection:
    """Read every slide and annotation of a datalist as training would, and collect what is wrong instead of stopping.

    Args:
        path: the datalist.
        scheme, fields_of_view, target, min_labelled, snap: as in training.
        patches: so many kept targets of each slide are read with all their views; -1 reads all of them.
        thumbnail: longest side of the pictures in pixels.
        allow_missing: classes that training does without.

    Raises:
        ValueError: the datalist itself cannot be read.
    """
    reader, target = PatchReader(fields_of_view, snap=snap), FieldOfView.of(target)
    entries, problems = _entries(path)
    inspected = []
    for section, item in tqdm(entries, desc="inspecting", unit="slide", delay=2, leave=False):
        inspected.append(_inspect(section, item, scheme, reader, target, min_labelled, patches, thumbnail))
    problems += _between_sections(entries) + _classes(inspected, scheme, target, allow_missing)
    return Inspection(inspected, problems)


def _entries(path: str | Path) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    entries: list[tuple[str, dict[str, Any]]] = []
    problems = []
    for section in SECTIONS:
        try:
            entries += [(section, item) for item in load_datalist(path, section)]
        except ValueError as error:
            # Without testing slides one can train; without the datalist one cannot.
            if section != "testing":
                problems.append(str(error))
    if not entries:
        raise ValueError(problems[0])
    return entries, problems


def _inspect(
    section: str,
    item: Mapping[str, Any],
    scheme: ClassScheme,
    reader: PatchReader,
    target: FieldOfView,
    min_labelled: float,
    patches: int,
    thumbnail: int,
) -> InspectedSlide:
    found = InspectedSlide(section, Path(item["image"]).name, entry=item)
    store = SlideStore(scheme)
    try:
        slide = store.slide(item)
    except (UnreadableFileError, ValueError) as error:
        found.problems.append(str(error))
        return found
    with slide:
        found.shape, found.mpp, found.backend = slide.shape, slide.mpp, slide.backend
        found.scanner = " ".join(slide.properties[key] for key in _SCANNER_KEYS if slide.properties.get(key))
        try:
            mpp = max(max(slide.shape) * slide.mpp / thumbnail, slide.mpp)
            size = tuple(max(1, round(side / step)) for side, step in zip(slide.shape, slide.pixel(mpp), strict=True))
            center = (slide.shape[0] / 2, slide.shape[1] / 2)
            found.thumbnail = slide.read(center, mpp, (size[0], size[1]), snap=0)
            found.labels = store.labels(item).label_map(slide, center, mpp, (size[0], size[1]))
            _targets(found, slide, item, scheme, reader, target, min_labelled, patches, store)
        except (UnreadableFileError, ValueError) as error:
            found.problems.append(str(error))
    return found


def _targets(
    found: InspectedSlide,
    slide: Slide,
    item: Mapping[str, Any],
    scheme: ClassScheme,
    reader: PatchReader,
    target: FieldOfView,
    min_labelled: float,
    patches: int,
    store: SlideStore,
) -> None:
    """Labelled area per class, and whether the pixels around it can be read."""
    if slide.lattice(reader.fields_of_view[0].mpp, reader.snap).step[0] < 1:
        found.problems.append(
            f"{slide.path}: its {slide.mpp:.4g} µm/px are coarser than the {reader.fields_of_view[0].mpp:g} that are "
            "read: pixels would be interpolated"
        )
    labels = store.labels(item)
    outside = labels.share_outside(slide) if isinstance(labels, Annotations) else 0.0
    if outside > _MOST_OUTSIDE:
        found.problems.append(
            f"{item['label']}: {outside:.0%} of the annotated area lies outside the slide. Was it drawn on another "
            "slide, or at another magnification?"
        )
    index = build_patch_index([item], scheme, reader, target, min_labelled, store=store)
    found.targets = len(index.rows)
    mm2 = (reader.actual_mpp(slide, target.mpp) / 1000) ** 2
    counts = dict(zip(scheme.names, index.pixels_per_class(), strict=True))
    found.annotated = {name: count * mm2 for name, count in counts.items()}
    centres = index.rows[["row", "column"]].to_numpy()
    if 0 <= patches < len(centres):
        centres = centres[np.linspace(0, len(centres) - 1, patches).astype(int)] if patches else centres[:0]
    for row, column in tqdm(centres, desc=f"reading {slide.name}", unit="patch", delay=3, leave=False):
        reader.read(slide, (float(row), float(column)))


def _between_sections(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Slides, patients and cases that stand in more than one section: what is learnt would be tested on itself."""
    problems = []
    for column, what in (("image", "slide"), ("patient", "patient"), ("case", "case")):
        sections: dict[str, set[str]] = {}
        for section, item in entries:
            # Regions of one slide may be divided between sections on purpose.
            if column in item and not (column == "image" and "regions" in item):
                sections.setdefault(str(item[column]), set()).add(section)
        for value, where in sections.items():
            if len(where) > 1:
                problems.append(f"{what} {Path(value).name} is in {' and '.join(sorted(where))}")
    return problems


def _classes(
    slides: Sequence[InspectedSlide], scheme: ClassScheme, target: FieldOfView, allow_missing: Sequence[str]
) -> list[str]:
    problems = []
    one_target = (target.extent / 1000) ** 2
    for name in scheme.names:
        area = sum(s.annotated.get(name, 0.0) for s in slides if s.section == "training")
        if area == 0 and name not in allow_missing:
            problems.append(
                f"no labelled pixel of {name} in training: it cannot be learnt (or name it in allow_missing)"
            )
        elif 0 < area < _FEW_TARGETS * one_target:
            problems.append(f"only {area:.4f} mm² of {name} in training, less than {_FEW_TARGETS} targets")
        shown_by = sum(bool(s.annotated.get(name)) for s in slides if s.section == "training")
        if shown_by == 1 and sum(s.section == "training" for s in slides) > 1:
            problems.append(f"only one training slide shows {name}")
        if area > 0 and not any(s.annotated.get(name) for s in slides if s.section == "validation"):
            problems.append(f"no labelled pixel of {name} in validation: the checkpoint is picked without it")
    return problems

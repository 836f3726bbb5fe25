"""Read a datalist as training would, and tell what stops training from what can only be done better."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..annotations import outlines_of
from ..classes import ClassScheme
from ..errors import UnreadableFileError
from ..slides import FieldOfView, PatchReader, Slide, file_name, slide_keys
from .class_map import NamesInUse, names_in_use, unknown_names_remark
from .datalist import SECTIONS, load_datalist
from .dataset import MultiMagnificationPatchDataset
from .index import TargetGrid, build_patch_index
from .origin import Outlines, origin_evidence, states_origin
from .store import PSEUDO_LABEL, SlideStore
from .subsets import PatchesPerClass, PatchSubset

_SCANNER_KEYS = ("openslide.vendor", "Make", "Model", "ScanScope ID", "aperio.ScanScope ID", "hamamatsu.Product")
# Below this many labelled targets of a class, what is learnt of it is one structure.
_FEW_TARGETS = 3
# Hand-drawn outlines run over the slide's edge a little.
_MOST_OUTSIDE = 0.02
# Fields that change what the annotation alone says.
_OVER_THE_LABEL = ("regions", "unannotated", PSEUDO_LABEL)

BatchCount = Callable[[MultiMagnificationPatchDataset], int]


@dataclass(frozen=True)
class PatchSettings:
    """How the patches of a section are chosen: the arguments of :class:`MultiMagnificationPatchDataset` that decide it.

    Args:
        fields_of_view, target, min_labelled, stride, snap: as there.
        rates, class_order, allow_missing, chosen, within, otsu, seed, training: as there.
    """

    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]]
    target: FieldOfView | Mapping[str, Any]
    min_labelled: float = 0.01
    stride: int | None = None
    snap: float = 0.03
    rates: Mapping[str, int] | None = None
    class_order: Sequence[str] = ()
    allow_missing: Sequence[str] | None = ()
    chosen: PatchSubset | PatchesPerClass | None = None
    within: FieldOfView | Mapping[str, Any] | None = None
    otsu: bool = False
    seed: int = 0
    training: bool = False

    def dataset(
        self, entries: Sequence[Mapping[str, Any]], scheme: ClassScheme, cache_dir: str | Path | None = None
    ) -> MultiMagnificationPatchDataset:
        """Return the data set of a section's entries; raises what training would."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return MultiMagnificationPatchDataset(entries, scheme, cache_dir=cache_dir, **given)

    def for_validation(self) -> PatchSettings:
        """Return the settings of a validation section that has none of its own: every patch counts, and no class is
        demanded."""
        return replace(self, allow_missing=None, rates=None, chosen=None, training=False)

    def allows_missing(self, name: str) -> bool:
        """Return whether a class may have no labelled pixel."""
        return self.allow_missing is None or name in self.allow_missing


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
        stops: what stops training, and what to do about it, in sentences.
        advice: what could be better.
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
    stops: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    entry: Mapping[str, Any] = field(default_factory=dict)

    def refuse(self, error: Exception) -> None:
        """Note what cannot be read. Training reads no testing slides, so that there it is advice."""
        if self.section != "testing":
            self.stops.append(str(error))
        else:
            self.advice.append(f"{error}. Training does not need this slide, evaluation would stop at it")


@dataclass
class Inspection:
    """All slides of a datalist, and what concerns several of them.

    Attributes:
        slides: with what was found of each.
        stops: what stops training and concerns several slides.
        advice: what could be better and concerns several slides.
    """

    slides: list[InspectedSlide]
    stops: list[str]
    advice: list[str]

    @property
    def can_train(self) -> bool:
        """Return whether nothing stops training."""
        return not self.all_stops

    @property
    def all_stops(self) -> list[str]:
        """Return everything that stops training, what concerns several slides first."""
        return [*self.stops, *(found for slide in self.slides for found in slide.stops)]

    @property
    def all_advice(self) -> list[str]:
        """Return all advice, what concerns several slides first."""
        return [*self.advice, *(found for slide in self.slides for found in slide.advice)]

    def table(self, scheme: ClassScheme) -> pd.DataFrame:
        """Return one row per slide."""
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
                "stops training": "; ".join(s.stops),
                "advice": "; ".join(s.advice),
            }
            for s in self.slides
        ]
        return pd.DataFrame(rows)


def inspect_datalist(
    path: str | Path,
    scheme: ClassScheme,
    training: PatchSettings,
    validation: PatchSettings | None = None,
    patches: int = 16,
    thumbnail: int = 480,
    owner: str = "the scheme",
    count_batches: BatchCount | None = None,
) -> Inspection:
    """Read every slide and annotation of a datalist as training would, and collect what is wrong instead of stopping.

    Args:
        path: the datalist.
        scheme: the classes.
        training: how the patches of the training section are chosen.
        validation: those of validation and testing; by default as for training, with no class demanded.
        patches: so many kept targets of each slide are read with all their views; -1 reads all of them.
        thumbnail: longest side of the pictures in pixels.
        owner: what the scheme is of, for messages.
        count_batches: returns how many batches an epoch of the training data set has, or raises ValueError.

    Raises:
        ValueError: the datalist itself cannot be read.
    """
    entries, stops, advice = _entries(path)
    settings = {"training": training, "validation": validation or training.for_validation()}
    with TemporaryDirectory() as cache:
        inspector = _Inspector(scheme, settings, Path(cache), patches, thumbnail)
        progress = tqdm(entries, desc="inspecting", unit="slide", delay=2, leave=False)
        slides = [inspector.slide(section, item) for section, item in progress]
        stops += inspector.section_stops("training", slides, count_batches)
        stops += inspector.section_stops("validation", slides)
    trained = names_in_use([item for section, item in entries if section != "testing"], scheme)
    tested = names_in_use([item for section, item in entries if section == "testing"], scheme)
    unknown = NamesInUse(unknown=trained.unknown + tested.unknown)
    (stops if trained.unknown else advice).extend(_unknown_names(unknown, entries, scheme, owner))
    advice += _between_sections(entries) + _class_advice(slides, scheme, training)
    return Inspection(slides, stops, advice)


def _entries(path: str | Path) -> tuple[list[tuple[str, dict[str, Any]]], list[str], list[str]]:
    """Return the entries with their sections, what stops training of the sections, and advice."""
    entries: list[tuple[str, dict[str, Any]]] = []
    stops, advice = [], []
    for section in SECTIONS:
        try:
            entries += [(section, item) for item in load_datalist(path, section)]
        except ValueError as error:
            if section == "testing":
                advice.append(f"{error}. Training needs no testing slides, but without them nothing scores the network")
            else:
                stops.append(str(error))
    if not entries:
        raise ValueError(stops[0])
    return entries, stops, advice


@dataclass(frozen=True)
class _Inspector:
    """Inspects slides one by one, and the sections that they make.

    Args:
        scheme: the classes.
        settings: section -> how its patches are chosen.
        cache: folder for patch indices: sections are built of those of their slides.
        patches, thumbnail: see :func:`inspect_datalist`.
    """

    scheme: ClassScheme
    settings: Mapping[str, PatchSettings]
    cache: Path
    patches: int
    thumbnail: int

    def slide(self, section: str, item: Mapping[str, Any]) -> InspectedSlide:
        """Return what is found of a slide."""
        found = InspectedSlide(section, file_name(item), entry=item)
        store = SlideStore(self.scheme)
        try:
            slide = store.slide(item)
        except (UnreadableFileError, ValueError) as error:
            found.refuse(error)
            return found
        with slide:
            found.shape, found.mpp, found.backend = slide.shape, slide.mpp, slide.backend
            found.scanner = " ".join(slide.properties[key] for key in _SCANNER_KEYS if slide.properties.get(key))
            if slide.remark:
                found.advice.append(f"{slide.path}: {slide.remark}")
            fault = self._draw(found, slide, store)
            try:
                self._read(found, slide, store)
            except (UnreadableFileError, ValueError) as error:
                found.refuse(error)
            else:
                if fault is not None:
                    found.advice.append(f"{fault}. Training does not read that part, segmenting the slide would")
        return found

    def section_stops(
        self, section: str, slides: Sequence[InspectedSlide], count_batches: BatchCount | None = None
    ) -> list[str]:
        """Return why the data set of a section cannot be made of the slides that can be read; nothing if it can, or if
        there are none."""
        of_section = [slide for slide in slides if slide.section == section]
        usable = [slide.entry for slide in of_section if not slide.stops]
        if not usable:
            return []
        try:
            dataset = self.settings[section].dataset(usable, self.scheme, self.cache)
            problem = _too_few(dataset, count_batches)
        except ValueError as error:
            problem = str(error)
        where = section if len(usable) == len(of_section) else f"{section}, of the slides that can be read"
        return [f"{where}: {problem}"] if problem else []

    def _draw(self, found: InspectedSlide, slide: Slide, store: SlideStore) -> Exception | None:
        """Draw the whole slide and its labels; return why that is not possible."""
        mpp = max(max(slide.shape) * slide.mpp / self.thumbnail, slide.mpp)
        height, width = (
            max(1, round(side / step)) for side, step in zip(slide.shape, slide.level0_pixels(mpp), strict=True)
        )
        center = (slide.shape[0] / 2, slide.shape[1] / 2)
        fault = None
        try:
            found.thumbnail = slide.read(center, mpp, (height, width), level_tolerance=0)
        except (UnreadableFileError, ValueError) as error:
            fault = error
        try:
            found.labels = store.labels(found.entry).label_map(slide, center, mpp, (height, width))
        except (UnreadableFileError, ValueError) as error:
            fault = fault or error
        return fault

    def _read(self, found: InspectedSlide, slide: Slide, store: SlideStore) -> None:
        """Measure the labelled area per class, and read the pixels around it."""
        settings = self.settings.get(found.section, self.settings["validation"])
        reader, target = (
            PatchReader(settings.fields_of_view, snap=settings.snap),
            FieldOfView.from_config(settings.target),
        )
        found.advice += _misplaced(slide, found, reader, store)
        found.advice += _origin_advice(slide, found.entry, store)
        rows = self._index(found, settings, reader, store)
        found.targets = len(rows)
        mm2 = (reader.effective_mpp(slide, target.mpp) / 1000) ** 2
        found.annotated = {name: float(rows[name].sum()) * mm2 for name in self.scheme.names}
        centres = rows[["row", "column"]].to_numpy()
        if 0 <= self.patches < len(centres):
            centres = centres[np.linspace(0, len(centres) - 1, self.patches).astype(int)]
        for row, column in tqdm(centres, desc=f"reading {slide.name}", unit="patch", delay=3, leave=False):
            reader.read(slide, (float(row), float(column)))

    def _index(
        self, found: InspectedSlide, settings: PatchSettings, reader: PatchReader, store: SlideStore
    ) -> pd.DataFrame:
        """Return the kept targets of a slide; a slide without one is advice, as others may have some."""
        target, within = FieldOfView.from_config(settings.target), settings.within
        tile = None if within is None else FieldOfView.from_config(within)
        grid = TargetGrid(reader, target, settings.min_labelled, settings.stride, tile)
        try:
            return build_patch_index([found.entry], self.scheme, grid, self.cache, store).rows
        except ValueError:
            # Labels that could be drawn can be indexed: what is left is that there are too few of them.
            if found.labels is None:
                raise
        found.advice.append(
            f"{found.entry['image']}: not used, as no target is annotated on more than {settings.min_labelled:.2%} of "
            "its pixels. Annotate more of it, or lower min_labelled"
        )
        return pd.DataFrame(columns=["row", "column", *self.scheme.names])


def _too_few(dataset: MultiMagnificationPatchDataset, count_batches: BatchCount | None) -> str | None:
    """Return what to do if there are too few patches to train on, or None."""
    if not len(dataset):
        return f"no annotated target of {len(dataset.data)} slides is kept. Annotate tissue"
    if count_batches is not None and not count_batches(dataset):
        return f"{len(dataset)} patches fill no batch: nothing would be trained. Annotate more, or lower batch_size"
    return None


def _misplaced(slide: Slide, found: InspectedSlide, reader: PatchReader, store: SlideStore) -> list[str]:
    """Return advice on a slide of another magnification than is read, and on an annotation that seems to be another's
    or of which parts label nothing."""
    advice = []
    finest = reader.fields_of_view[0].mpp
    if reader.interpolates(slide):
        advice.append(
            f"{slide.path}: its {slide.mpp:.4g} µm/px are coarser than the {finest:g} that are read: pixels are "
            "interpolated. Use a finer scan if there is one, or give its true mpp in the datalist"
        )
    outlines = outlines_of(store.labels(found.entry))
    if outlines is not None and outlines.remark:
        advice.append(f"{found.entry['label']}: {outlines.remark}")
    outside = outlines.share_outside(slide) if outlines is not None else 0.0
    if outside > _MOST_OUTSIDE:
        advice.append(
            f"{found.entry['label']}: {outside:.0%} of the annotated area lies outside the slide. Check that it was "
            "drawn on this slide, at full magnification"
        )
    return advice


def _origin_advice(slide: Slide, entry: Mapping[str, Any], store: SlideStore) -> list[str]:
    """Return advice on an annotation that does not clearly lie on tissue as it is read, on a slide with bounds."""
    if not entry.get("label") or not (slide.bounds or slide.bounds_quote) or states_origin(entry):
        return []
    if slide.bounds_quote and entry.get("origin") is None:
        return [
            f"{slide.path.name}: its bounds cannot be ({slide.bounds_quote}): annotations are taken to count from the "
            "slide's corner. See on the contact sheet whether they lie on tissue"
        ]
    labels = store.labels({name: value for name, value in entry.items() if name not in _OVER_THE_LABEL})
    if not isinstance(labels, Outlines) or store.scheme is None:
        return []
    try:
        evidence = origin_evidence(slide, labels, store.scheme)
    except UnreadableFileError:
        return []
    if evidence is None or evidence.best == labels.origin:
        return []
    if evidence.best is not None:
        return [f'{evidence}. Give "origin": "{evidence.best}" in the entry']
    if entry.get("origin") is not None:
        return []
    return [f'{evidence}. See on the contact sheet which is right, and give "origin": "slide" or "bounds" in the entry']


def _unknown_names(
    found: NamesInUse, entries: Sequence[tuple[str, Mapping[str, Any]]], scheme: ClassScheme, owner: str
) -> list[str]:
    """Return one finding for all class names that the scheme does not have."""
    so_far = {name: value for _, item in entries for name, value in (item.get("class_map") or {}).items()}
    lines = unknown_names_remark(found, scheme, owner, so_far)
    if not lines:
        return []
    where = '(to multimag datalist folder, or the same as "class_map" in the entries of the datalist)'
    return [". ".join([f"{lines[0]} {where}", *lines[1:]])]


def _between_sections(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return which slides, patients and cases are in more than one section."""
    advice = []
    for column, what in (("image", "slide"), ("patient", "patient"), ("case", "case")):
        sections: dict[Hashable, set[str]] = {}
        shown: dict[Hashable, str] = {}
        # Regions of one slide may be divided between sections on purpose.
        having = [one for one in entries if column in one[1] and not (column == "image" and "regions" in one[1])]
        images = slide_keys(item for _, item in having) if column == "image" else []
        values: list[Hashable] = [*images] or [str(item[column]) for _, item in having]
        for (section, item), value in zip(having, values, strict=True):
            sections.setdefault(value, set()).add(section)
            shown[value] = file_name(item) if column == "image" else str(item[column])
        for value, where in sections.items():
            if len(where) > 1:
                advice.append(
                    f"{what} {shown[value]} is in {' and '.join(sorted(where))}: scores on what was trained on are "
                    "too good. Keep it in one section"
                )
    return advice


def _class_advice(slides: Sequence[InspectedSlide], scheme: ClassScheme, training: PatchSettings) -> list[str]:
    """Return advice on classes of which there is little, or which some section lacks."""
    trained = [slide for slide in slides if slide.section == "training" and slide.annotated]
    validated = [slide for slide in slides if slide.section == "validation" and slide.annotated]
    advice = []
    for name in scheme.names if trained else ():
        areas = [slide.annotated[name] for slide in trained if slide.annotated[name]]
        if areas:
            advice += _scarce(name, areas, len(trained), FieldOfView.from_config(training.target))
        elif training.allows_missing(name):
            advice.append(
                f"no labelled pixel of {name} in training, which allow_missing permits: the network will not learn it. "
                "Annotate some if it should"
            )
        if areas and validated and not any(slide.annotated[name] for slide in validated):
            advice.append(
                f"no labelled pixel of {name} in validation: the checkpoint is picked without it. Annotate it in a "
                "validation slide"
            )
    return advice


def _scarce(name: str, areas: Sequence[float], slides: int, target: FieldOfView) -> list[str]:
    """Return advice on a class of which there is little in training."""
    advice = []
    if sum(areas) < _FEW_TARGETS * (target.extent / 1000) ** 2:
        advice.append(
            f"only {sum(areas):.4f} mm² of {name} in training, less than {_FEW_TARGETS} targets. Annotate more of it"
        )
    if len(areas) == 1 and slides > 1:
        advice.append(f"only one training slide shows {name}. Annotate it in others, too")
    return advice

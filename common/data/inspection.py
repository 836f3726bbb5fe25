"""Read a datalist as training would, and tell faults that stop training from advice."""

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
from ..renamed_keys import takes_old_names
from ..slides import FieldOfView, PatchReader, Slide, file_name, slide_keys
from .class_map import NamesInUse, names_in_use, unknown_names_remark
from .datalist import SECTIONS, load_datalist
from .dataset import MultiMagnificationPatchDataset
from .index import TargetGrid, build_patch_index
from .origin import Outlines, origin_evidence, states_origin
from .store import PSEUDO_LABEL, SlideStore
from .subsets import PatchesPerClass, PatchSubset

_SCANNER_KEYS = ("openslide.vendor", "Make", "Model", "ScanScope ID", "aperio.ScanScope ID", "hamamatsu.Product")
# With fewer labelled targets of a class, a network learns a single structure of it.
_FEW_TARGETS = 3
# Hand-drawn outlines may cross the slide's edge a little.
_MOST_OUTSIDE = 0.02
# Fields that change the labels besides the annotation itself.
_OVER_THE_LABEL = ("regions", "unannotated", PSEUDO_LABEL)

BatchCount = Callable[[MultiMagnificationPatchDataset], int]


@takes_old_names
@dataclass(frozen=True)
class PatchSettings:
    """The arguments of :class:`MultiMagnificationPatchDataset` that decide the patches of a section.

    Args:
        fields_of_view, target, min_labelled, stride, snap: see there.
        elastic_copies, class_priority, allow_missing, chosen, within, tissue_only, seed, training: see there.
    """

    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]]
    target: FieldOfView | Mapping[str, Any]
    min_labelled: float = 0.01
    stride: int | None = None
    snap: float = 0.03
    elastic_copies: Mapping[str, int] | None = None
    class_priority: Sequence[str] = ()
    allow_missing: Sequence[str] | None = ()
    chosen: PatchSubset | PatchesPerClass | None = None
    within: FieldOfView | Mapping[str, Any] | None = None
    tissue_only: bool = False
    seed: int = 0
    training: bool = False

    def dataset(
        self, entries: Sequence[Mapping[str, Any]], scheme: ClassScheme, cache_dir: str | Path | None = None
    ) -> MultiMagnificationPatchDataset:
        """Return the dataset of a section's entries, with the errors that training would raise."""
        settings = {one.name: getattr(self, one.name) for one in fields(self)}
        return MultiMagnificationPatchDataset(entries, scheme, cache_dir=cache_dir, **settings)

    def for_validation(self) -> PatchSettings:
        """Return the settings of a validation section without its own.

        Every patch counts once, and no class is required.
        """
        return replace(self, allow_missing=None, elastic_copies=None, chosen=None, training=False)

    def allows_missing(self, name: str) -> bool:
        """Return whether a class may have no labelled pixel."""
        return self.allow_missing is None or name in self.allow_missing


@dataclass
class InspectedSlide:
    """An entry of a datalist as training will see it.

    Attributes:
        section, name: section of the entry and name of the slide.
        shape: height and width at level 0, in pixels.
        mpp: µm per level-0 pixel.
        scanner: scanner named in the file.
        backend: library that reads the file.
        targets: number of kept targets.
        annotated: mm² of each class on the kept targets.
        thumbnail, labels: ``(h, w, 3)`` and ``(h, w)`` uint8 of the whole slide; None if they cannot be read.
        stops: faults that stop training, with their remedies, in sentences.
        advice: possible improvements.
        entry: the entry.
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
        """Record that something cannot be read: advice for a testing slide, which training does not read."""
        if self.section != "testing":
            self.stops.append(str(error))
        else:
            self.advice.append(f"{error}. Training does not need this slide, evaluation would stop at it")


@dataclass
class Inspection:
    """The inspected slides of a datalist, and findings about several of them.

    Attributes:
        slides: the slides with the findings about each.
        stops: faults that stop training and concern several slides.
        advice: possible improvements that concern several slides.
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
        """Return all faults that stop training, those of several slides first."""
        return [*self.stops, *(fault for slide in self.slides for fault in slide.stops)]

    @property
    def all_advice(self) -> list[str]:
        """Return all advice, that on several slides first."""
        return [*self.advice, *(line for slide in self.slides for line in slide.advice)]

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
    """Read every slide and annotation of a datalist as training would, and collect the faults instead of stopping.

    Args:
        path: the datalist.
        scheme: the classes.
        training: settings of the training section's patches.
        validation: settings of validation and testing; by default those of training, with no class required.
        patches: number of kept targets of each slide that are read with all their views; -1 for all.
        thumbnail: longest side of the pictures in pixels.
        owner: owner of the scheme, for messages.
        count_batches: function that returns the number of batches in an epoch of the training dataset, or raises
            ValueError.

    Returns:
        The slides and the findings.

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
    """Return the entries with their sections, the faults of the sections that stop training, and advice."""
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
    """An inspector of slides and of the sections that they form.

    Args:
        scheme: the classes.
        settings: section -> settings of its patches.
        cache: folder for patch indexes, so that a section reuses those of its slides.
        patches, thumbnail: see :func:`inspect_datalist`.
    """

    scheme: ClassScheme
    settings: Mapping[str, PatchSettings]
    cache: Path
    patches: int
    thumbnail: int

    def slide(self, section: str, item: Mapping[str, Any]) -> InspectedSlide:
        """Return a slide with all findings."""
        inspected = InspectedSlide(section, file_name(item), entry=item)
        store = SlideStore(self.scheme)
        try:
            slide = store.slide(item)
        except (UnreadableFileError, ValueError) as error:
            inspected.refuse(error)
            return inspected
        with slide:
            inspected.shape, inspected.mpp, inspected.backend = slide.shape, slide.mpp, slide.backend
            inspected.scanner = " ".join(slide.properties[key] for key in _SCANNER_KEYS if slide.properties.get(key))
            if slide.remark:
                inspected.advice.append(f"{slide.path}: {slide.remark}")
            fault = self._draw(inspected, slide, store)
            try:
                self._read(inspected, slide, store)
            except (UnreadableFileError, ValueError) as error:
                inspected.refuse(error)
            else:
                if fault is not None:
                    inspected.advice.append(f"{fault}. Training does not read that part, segmenting the slide would")
        return inspected

    def section_stops(
        self, section: str, slides: Sequence[InspectedSlide], count_batches: BatchCount | None = None
    ) -> list[str]:
        """Return the reason why a section has no dataset of its readable slides; nothing if it has, or if none is
        readable."""
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

    def _draw(self, inspected: InspectedSlide, slide: Slide, store: SlideStore) -> Exception | None:
        """Draw the whole slide and its labels; return the error if that fails."""
        mpp = max(max(slide.shape) * slide.mpp / self.thumbnail, slide.mpp)
        height, width = (
            max(1, round(side / step)) for side, step in zip(slide.shape, slide.level0_pixels(mpp), strict=True)
        )
        center = (slide.shape[0] / 2, slide.shape[1] / 2)
        fault = None
        try:
            inspected.thumbnail = slide.read(center, mpp, (height, width), level_tolerance=0)
        except (UnreadableFileError, ValueError) as error:
            fault = error
        try:
            inspected.labels = store.labels(inspected.entry).label_map(slide, center, mpp, (height, width))
        except (UnreadableFileError, ValueError) as error:
            fault = fault or error
        return fault

    def _read(self, inspected: InspectedSlide, slide: Slide, store: SlideStore) -> None:
        """Measure the labelled area of each class, and read patches."""
        settings = self.settings.get(inspected.section, self.settings["validation"])
        reader, target = (
            PatchReader(settings.fields_of_view, snap=settings.snap),
            FieldOfView.from_config(settings.target),
        )
        inspected.advice += _misplaced(slide, inspected, reader, store)
        inspected.advice += _origin_advice(slide, inspected.entry, store)
        rows = self._index(inspected, settings, reader, store)
        inspected.targets = len(rows)
        mm2 = (reader.effective_mpp(slide, target.mpp) / 1000) ** 2
        inspected.annotated = {name: float(rows[name].sum()) * mm2 for name in self.scheme.names}
        centres = rows[["row", "column"]].to_numpy()
        if 0 <= self.patches < len(centres):
            centres = centres[np.linspace(0, len(centres) - 1, self.patches).astype(int)]
        for row, column in tqdm(centres, desc=f"reading {slide.name}", unit="patch", delay=3, leave=False):
            reader.read(slide, (float(row), float(column)))

    def _index(
        self, inspected: InspectedSlide, settings: PatchSettings, reader: PatchReader, store: SlideStore
    ) -> pd.DataFrame:
        """Return the kept targets of a slide. A slide without any is advice, as others may have some."""
        target, within = FieldOfView.from_config(settings.target), settings.within
        tile = None if within is None else FieldOfView.from_config(within)
        grid = TargetGrid(reader, target, settings.min_labelled, settings.stride, tile)
        try:
            return build_patch_index([inspected.entry], self.scheme, grid, self.cache, store).rows
        except ValueError:
            # Labels that could be drawn can be indexed, so the reason is that they are too few.
            if inspected.labels is None:
                raise
        inspected.advice.append(
            f"{inspected.entry['image']}: not used, as no target is annotated on more than {settings.min_labelled:.2%} "
            "of its pixels. Annotate more of it, or lower min_labelled"
        )
        return pd.DataFrame(columns=["row", "column", *self.scheme.names])


def _too_few(dataset: MultiMagnificationPatchDataset, count_batches: BatchCount | None) -> str | None:
    """Return a remedy if there are too few patches to train on, or None."""
    if not len(dataset):
        return f"no annotated target of {len(dataset.data)} slides is kept. Annotate tissue"
    if count_batches is not None and not count_batches(dataset):
        return f"{len(dataset)} patches fill no batch: nothing would be trained. Annotate more, or lower batch_size"
    return None


def _misplaced(slide: Slide, inspected: InspectedSlide, reader: PatchReader, store: SlideStore) -> list[str]:
    """Return advice on a slide that is coarser than the finest view, and on an annotation that seems to belong to
    another slide or has parts that label nothing."""
    advice = []
    finest = reader.fields_of_view[0].mpp
    if reader.interpolates(slide):
        advice.append(
            f"{slide.path}: its {slide.mpp:.4g} µm/px are coarser than the {finest:g} that are read: pixels are "
            "interpolated. Use a finer scan if there is one, or give its true mpp in the datalist"
        )
    outlines = outlines_of(store.labels(inspected.entry))
    if outlines is not None and outlines.remark:
        advice.append(f"{inspected.entry['label']}: {outlines.remark}")
    outside = outlines.share_outside(slide) if outlines is not None else 0.0
    if outside > _MOST_OUTSIDE:
        advice.append(
            f"{inspected.entry['label']}: {outside:.0%} of the annotated area lies outside the slide. Check that it "
            "was drawn on this slide, at full magnification"
        )
    return advice


def _origin_advice(slide: Slide, entry: Mapping[str, Any], store: SlideStore) -> list[str]:
    """Return advice on an annotation of a slide with bounds that does not clearly lie on tissue."""
    if not entry.get("label") or not (slide.bounds or slide.bounds_quote) or states_origin(entry):
        return []
    if slide.bounds_quote and entry.get("origin") is None:
        return [
            f"{slide.path.name}: its bounds are impossible ({slide.bounds_quote}): annotations are taken to count from "
            "the slide's corner. See on the contact sheet whether they lie on tissue"
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
    names: NamesInUse, entries: Sequence[tuple[str, Mapping[str, Any]]], scheme: ClassScheme, owner: str
) -> list[str]:
    """Return one finding on all class names that the scheme lacks."""
    current_map = {name: value for _, item in entries for name, value in (item.get("class_map") or {}).items()}
    lines = unknown_names_remark(names, scheme, owner, current_map)
    if not lines:
        return []
    where = '(to multimag datalist folder, or the same as "class_map" in the entries of the datalist)'
    return [". ".join([f"{lines[0]} {where}", *lines[1:]])]


def _between_sections(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return advice on slides, patients and cases that are in several sections."""
    advice = []
    for column, what in (("image", "slide"), ("patient", "patient"), ("case", "case")):
        sections: dict[Hashable, set[str]] = {}
        names: dict[Hashable, str] = {}
        # Regions of one slide may be divided between sections on purpose.
        having = [one for one in entries if column in one[1] and not (column == "image" and "regions" in one[1])]
        images = slide_keys(item for _, item in having) if column == "image" else []
        values: list[Hashable] = [*images] or [str(item[column]) for _, item in having]
        for (section, item), value in zip(having, values, strict=True):
            sections.setdefault(value, set()).add(section)
            names[value] = file_name(item) if column == "image" else str(item[column])
        for value, where in sections.items():
            if len(where) > 1:
                advice.append(
                    f"{what} {names[value]} is in {' and '.join(sorted(where))}: scores on what was trained on are "
                    "too good. Keep it in one section"
                )
    return advice


def _class_advice(slides: Sequence[InspectedSlide], scheme: ClassScheme, training: PatchSettings) -> list[str]:
    """Return advice on classes that are scarce, or that a section lacks."""
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
    """Return advice on a class that is scarce in training."""
    advice = []
    if sum(areas) < _FEW_TARGETS * (target.extent / 1000) ** 2:
        advice.append(
            f"only {sum(areas):.4f} mm² of {name} in training, less than {_FEW_TARGETS} targets. Annotate more of it"
        )
    if len(areas) == 1 and slides > 1:
        advice.append(f"only one training slide shows {name}. Annotate it in others, too")
    return advice

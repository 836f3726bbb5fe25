"""Find the origin of annotations on a slide with bounds: the one that puts them on tissue."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations import (
    AnnotationError,
    Annotations,
    LabelImage,
    ProportionsError,
    outline_names,
    parsed_once,
    read_annotations,
    stated_origin,
)
from ..classes import IGNORE, UNLABELLED, ClassScheme
from ..errors import UnreadableFileError
from ..slides import ORIGINS, PLAIN_SUFFIXES, Bounds, Slide, open_entry, tissue_mask
from .class_map import guessed_class, is_background

Outlines = Annotations | LabelImage
# Outlines and tissue are compared at this µm/px or coarser, with at most this many pixels on the longest side.
_MPP, _LONGEST = 2.0, 2048
# An origin is clear if this share of the annotated area lies on tissue, and this much more than with the other origin.
_LEAST, _APART = 0.5, 0.2
_DRAWN, _GLASS = "annotated", "background"
_TWO_CLASSES = ClassScheme(
    [{"name": name, "color": (0, 0, 0), "label": n, "channel": n - 1} for n, name in enumerate((_DRAWN, _GLASS), 1)],
    skipped=_GLASS,
)

# For label images with unknown classes: every value is an annotation.
_ANY_LABEL = ClassScheme([{"name": str(n), "color": (0, 0, 0), "label": n, "channel": n - 1} for n in range(1, IGNORE)])


@dataclass(frozen=True)
class OriginEvidence:
    """The share of a slide's annotated area that lies on tissue, for each origin.

    Attributes:
        name: file name of the slide.
        bounds: bounds of the slide.
        shares: origin -> share of the annotated area that is tissue; None if the origin is impossible, as a picture has
            other proportions. Empty if the shares could not be measured.
        problem: reason why they could not be measured; otherwise empty.
    """

    name: str
    bounds: Bounds
    shares: Mapping[str, float | None]
    problem: str = ""

    @property
    def best(self) -> str | None:
        """Return the origin that puts outlines on tissue; None if neither clearly does."""
        fitting = {origin: share for origin, share in self.shares.items() if share is not None}
        if len(fitting) == 1:
            return next(iter(fitting))
        better = max(fitting, key=lambda origin: fitting[origin], default=None)
        if better is None or fitting[better] < _LEAST or fitting[better] - min(fitting.values()) < _APART:
            return None
        return better

    def __str__(self) -> str:
        place = f"{self.name} has bounds (from row {self.bounds.top}, column {self.bounds.left})"
        if self.problem:
            return f"{place}; which origin fits could not be told: {self.problem}"
        bounds, corner = (_share_text(self.shares[origin]) for origin in ("bounds", "slide"))
        return f"{place}: annotations lie on tissue {bounds} counted from the bounds, {corner} from the slide's corner"


def _share_text(share: float | None) -> str:
    return "not at all (other proportions)" if share is None else f"to {share:.0%}"


def origin_evidence(slide: Slide, labels: Outlines, scheme: ClassScheme) -> OriginEvidence | None:
    """Measure the share of the annotated area on tissue, counted from the slide's corner and from its bounds.

    Args:
        slide: the slide.
        labels: its annotation.
        scheme: the classes; outlines of background or glass do not count.

    Returns:
        The evidence; None if both origins are the same place.

    Raises:
        UnreadableFileError: slide or annotation cannot be read.
    """
    if slide.bounds is None or slide.frame("bounds") == slide.frame("slide"):
        return None
    mask = tissue_mask(slide, max(_MPP, max(slide.shape) * slide.mpp / _LONGEST))
    mpp = mask.pixel[0] / slide.level0_pixels(1.0)[0]
    center = (mask.mask.shape[0] * mask.pixel[0] / 2, mask.mask.shape[1] * mask.pixel[1] / 2)
    of_tissue = np.array(
        [label for label in range(256) if label != UNLABELLED and label not in _background_labels(scheme)]
    )
    drawn: dict[str, np.ndarray | None] = {}
    for origin in ORIGINS:
        try:
            label_map = with_origin(labels, origin).label_map(slide, center, mpp, mask.mask.shape)
            drawn[origin] = np.isin(label_map, of_tissue)
        except ProportionsError:
            drawn[origin] = None
    areas = {origin: 0 if where is None else int(where.sum()) for origin, where in drawn.items()}
    if isinstance(labels, Annotations) and labels.canvas is None:
        # Outlines count with one area: a part that an origin moves off the slide is on no tissue. Pictures are scaled
        # to fit.
        areas = dict.fromkeys(areas, max(areas.values()))
    shares = {
        origin: None if where is None else float((where & mask.mask).sum()) / max(areas[origin], 1)
        for origin, where in drawn.items()
    }
    return OriginEvidence(slide.path.name, slide.bounds, shares)


def with_origin(labels: Outlines, origin: str) -> Outlines:
    """Return a copy of an annotation that counts from an origin."""
    moved = copy.copy(labels)
    moved.origin = origin
    return moved


def states_origin(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry's annotation states its origin; False if it cannot be read."""
    if not str(entry["label"]).lower().endswith((".json", ".geojson", ".gz")):
        return False
    try:
        return stated_origin(entry["label"]) is not None
    except (AnnotationError, OSError):
        return False


def evidence_of_files(entry: Mapping[str, Any], scheme: ClassScheme | None) -> OriginEvidence | None:
    """Measure for a slide and an annotation with class names that may be unknown yet; see :func:`origin_evidence`.

    Args:
        entry: datalist entry with ``image`` and ``label``, whose paths can be opened.
        scheme: the classes, if they are known.

    Returns:
        The evidence, with the reason if the annotation cannot be compared with the slide. None if both origins are the
        same place, the annotation states its own, or the slide cannot be opened, which is reported elsewhere.
    """
    if str(entry["image"]).lower().endswith(PLAIN_SUFFIXES):
        # Plain images have no bounds, and opening one decodes it whole.
        return None
    try:
        slide = open_entry(entry)
    except (UnreadableFileError, ValueError):
        return None
    with slide, parsed_once():
        if slide.bounds is None or slide.frame("bounds") == slide.frame("slide") or states_origin(entry):
            return None
        try:
            return origin_evidence(slide, *_read_for_comparison(entry, scheme))
        except UnreadableFileError as error:
            problem = f"{error.path.name}: {error.problem}"
        except ValueError as error:
            problem = str(error)
        return OriginEvidence(slide.path.name, slide.bounds, {}, problem)


def _read_for_comparison(entry: Mapping[str, Any], scheme: ClassScheme | None) -> tuple[Any, ClassScheme]:
    """Read an annotation for comparison with the tissue mask, and return it with its classes.

    Outlines of any name get one of two classes, annotated or background.
    """
    image = Path(entry["image"]).name
    names = outline_names(entry["label"], image)
    if not names:
        return _label_image(entry, scheme)
    own_map = entry.get("class_map") or {}
    class_map = {
        name: _compared_class(name, own_map, scheme)
        for outline in names
        for name in outline.candidates
        if outline.fallback is not None or name in own_map
    }
    return read_annotations(entry["label"], _TWO_CLASSES, class_map, image=image), _TWO_CLASSES


def _label_image(entry: Mapping[str, Any], scheme: ClassScheme | None) -> tuple[Any, ClassScheme]:
    """Return a label image and its classes; without a scheme, the classes to which its values or pages are mapped."""
    fields: dict[str, Any] = {name: entry.get(name) for name in ("label_values", "label_channel", "label_pages")}
    if scheme is None and (fields["label_values"] or fields["label_pages"]):
        scheme = _TWO_CLASSES
        for name in ("label_values", "label_pages"):
            mapping = fields[name]
            if mapping:
                fields[name] = {key: value and _compared_class(value, {}, None) for key, value in mapping.items()}
    scheme = scheme or _ANY_LABEL
    return read_annotations(entry["label"], scheme, **fields), scheme


def _compared_class(name: str, class_map: Mapping[str, str | None], scheme: ClassScheme | None) -> str | None:
    meant = class_map.get(name, name)
    if meant is None:
        return None
    skipped = None if scheme is None or scheme.skipped is None else scheme.skipped.name
    guessed = meant if scheme is None or meant in scheme.names else guessed_class(meant, scheme)
    return _GLASS if is_background(meant) or (skipped is not None and guessed == skipped) else _DRAWN


def _background_labels(scheme: ClassScheme) -> set[int]:
    """Return the labels of classes that mark places without tissue."""
    skipped = set() if scheme.skipped is None else {scheme.skipped.label}
    return skipped | {one.label for one in scheme.classes if is_background(one.name)}

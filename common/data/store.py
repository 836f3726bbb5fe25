"""Keep the open slides and annotations of a process."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..annotations import (
    Annotations,
    FirstLabels,
    LabelSource,
    PredictedLabels,
    ScopedLabels,
    Unannotated,
    read_annotations,
)
from ..classes import ClassScheme
from ..files import sha256
from ..slides import Slide, image_and_series, open_entry, read_options

# Fields of an entry that decide its labels.
_FIRST_FIELDS = ("label", "class_map", "label_values", "cut_out", "regions", "unannotated")
_LATER_FIELDS = ("label_channel", "label_pages", "origin")
LABEL_FIELDS = (*_FIRST_FIELDS, *_LATER_FIELDS)
PSEUDO_LABEL = "pseudo_label"
_LABEL_FILES = ("label", PSEUDO_LABEL)


def label_fingerprint(item: Mapping[str, Any]) -> list[Any]:
    """Return everything that decides the labels of an entry, for cache keys; files count by their content."""
    files = [sha256(item[name]) if item.get(name) else None for name in _LABEL_FILES]
    # An entry without predicted labels, or a later field, keeps the fingerprint that it had before there were any.
    later = [[name, item[name]] for name in _LATER_FIELDS if item.get(name) is not None]
    return [*(files if files[1] else files[:1]), *(item.get(name) for name in _FIRST_FIELDS[1:]), *later]


class SlideStore:
    """A store that opens the slides and annotations of datalist entries once, and keeps the last ones open.

    It pickles empty, so that every worker process opens its own.

    Args:
        scheme: classes of the annotations; None if only slides are read.
        capacity: largest number of open slides, and of annotations.
    """

    def __init__(self, scheme: ClassScheme | None = None, capacity: int = 64) -> None:
        self.scheme, self.capacity = scheme, capacity
        self._slides: OrderedDict[tuple, Slide] = OrderedDict()
        self._labels: OrderedDict[str, LabelSource] = OrderedDict()

    def slide(self, item: Mapping[str, Any]) -> Slide:
        """Return the slide of an entry; see :func:`open_entry`."""
        key = (str(item["image"]), *sorted(read_options(item).items()))
        if key not in self._slides:
            self._slides[key] = open_entry(item)
            if len(self._slides) > self.capacity:
                self._slides.popitem(last=False)[1].close()
        self._slides.move_to_end(key)
        return self._slides[key]

    def labels(self, item: Mapping[str, Any]) -> LabelSource:
        """Return the labels of an entry: ``label``, with its ``class_map``, ``label_values``, ``label_channel``,
        ``label_pages``, ``origin``, ``cut_out``, ``regions`` and ``unannotated``.

        Without ``label`` everything is unannotated. ``pseudo_label``, a network's ``prediction.tif``, labels the pixels
        that are still unlabelled.

        Raises:
            ValueError: the store has no classes, or a field is wrong.
            AnnotationError: an annotation cannot be read.
        """
        if self.scheme is None:
            raise ValueError("this store was made without a class scheme and reads no labels")
        fields = [item.get(name) for name in (*LABEL_FIELDS, PSEUDO_LABEL)]
        key = json.dumps([image_and_series(item), *fields], sort_keys=True, default=str)
        if key not in self._labels:
            self._labels[key] = _read(item, self.scheme)
            if len(self._labels) > self.capacity:
                self._labels.popitem(last=False)
        self._labels.move_to_end(key)
        return self._labels[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"scheme": self.scheme, "capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["scheme"], state["capacity"])  # type: ignore[misc]


def _read(item: Mapping[str, Any], scheme: ClassScheme) -> LabelSource:
    labels: LabelSource = Annotations([])
    if item.get("label") is not None:
        image = Path(item["image"]).name
        fields = (item.get("class_map"), item.get("label_values"), image, item.get("cut_out") or ())
        picked = (item.get(name) for name in _LATER_FIELDS)
        labels = read_annotations(item["label"], scheme, *fields, *picked)
    try:
        unannotated = Unannotated.from_config(item.get("unannotated"), scheme)
        scoped = unannotated is not None or item.get("regions") is not None
        if scoped:
            labels = ScopedLabels(labels, item.get("regions"), unannotated)
        return FirstLabels(labels, PredictedLabels(item[PSEUDO_LABEL], scheme)) if item.get(PSEUDO_LABEL) else labels
    except ValueError as error:
        raise ValueError(f"{item['image']}: {error}") from error

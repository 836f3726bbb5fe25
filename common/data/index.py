"""Which targets of which slides hold labelled pixels."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..classes import ClassScheme
from ..files import atomic_write, safe_name
from ..literal import as_path
from ..slides import FieldOfView, PatchReader, Slide, has_several_files
from .processes import share_out
from .store import SlideStore, label_key

logger = logging.getLogger(__name__)
# Raised when the meaning of a cached table changes.
_FORMAT = 3


@dataclass(frozen=True)
class PatchIndex:
    """One row per kept target.

    Attributes:
        rows: ``slide`` (position in the datalist), ``row`` and ``column`` (centre, level-0 pixels), one column of
            labelled pixels per class, and ``deformation``: -1, or the seed of its elastic deformation.
        class_names: in label order.
    """

    rows: pd.DataFrame
    class_names: tuple[str, ...]

    def pixels_per_class(self) -> list[int]:
        """Labelled pixels of each class over all rows."""
        return [int(self.rows[name].sum()) for name in self.class_names]

    def of_rows(self, kept: Sequence[int] | np.ndarray) -> PatchIndex:
        """Only these rows, by their positions or a mask of them, in their order."""
        positions = np.arange(len(self.rows))[np.asarray(kept)]
        return PatchIndex(self.rows.iloc[positions].reset_index(drop=True), self.class_names)


def build_patch_index(
    data: Sequence[Mapping[str, Any]],
    scheme: ClassScheme,
    reader: PatchReader,
    target: FieldOfView,
    min_labelled: float = 0.01,
    stride: int | None = None,
    cache_dir: str | Path | None = None,
    store: SlideStore | None = None,
    within: FieldOfView | None = None,
) -> PatchIndex:
    """List the targets of which more than ``min_labelled`` is annotated, on a grid from each slide's top left corner.
    Where several processes train together, each indexes its share of the slides.

    Args:
        data: datalist entries.
        scheme: the classes.
        reader: decides the lattice on which each slide is read.
        target: what is predicted.
        min_labelled: share of the target's pixels (Ho et al. 2021: 0.01); 0 keeps every target with a labelled pixel.
        stride: of the grid, in target pixels; the target's size by default.
        cache_dir: where finished tables are kept, by content of annotation and settings.
        within: keep only targets that lie within one tile of a grid of these from the slide's top left corner.

    Raises:
        ValueError: no target is left.
        SlideError, AnnotationError: a slide or annotation cannot be read.
    """
    cache_dir = None if cache_dir is None else as_path(cache_dir)
    store = store or SlideStore(scheme)
    stride = stride or target.size

    def indexed(item: Mapping[str, Any]) -> pd.DataFrame:
        return _cached_table(item, scheme, reader, target, min_labelled, stride, cache_dir, store, within)

    tables = share_out(indexed, data, "indexing slides")
    for number, table in enumerate(tables):
        table.insert(0, "slide", number)
    rows = pd.concat(tables, ignore_index=True)
    if rows.empty:
        raise ValueError(
            f"no target of {len(data)} slides is annotated on more than {min_labelled:.2%} of its pixels. "
            "Annotate more, or lower min_labelled"
        )
    rows["deformation"] = -1
    return PatchIndex(rows, tuple(scheme.names))


def _cached_table(
    item: Mapping[str, Any],
    scheme: ClassScheme,
    reader: PatchReader,
    target: FieldOfView,
    min_labelled: float,
    stride: int,
    cache_dir: str | Path | None,
    store: SlideStore,
    within: FieldOfView | None,
) -> pd.DataFrame:
    slide = store.slide(item)
    if cache_dir is None:
        return _table(slide, item, scheme, reader, target, min_labelled, stride, store, within)
    views = [asdict(view) for view in reader.fields_of_view]
    state = slide.files.state
    # A slide of one file, or without a series, has the key that it had before there were others.
    later: list[Any] = [] if slide.series is None else [slide.series]
    later += [{"modified": state.modified}] if has_several_files(slide.path) else []
    described = {
        "format": _FORMAT,
        "slide": [slide.path.name, state.size, slide.shape, slide.mpp, *later],
        "labels": [*label_key(item), scheme.names],
        "grid": [asdict(target), stride, min_labelled, views, reader.snap, None if within is None else asdict(within)],
    }
    key = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:24]
    path = Path(cache_dir) / f"{safe_name(slide.name)}-{key}.csv"
    if path.exists():
        return pd.read_csv(path)
    table = _table(slide, item, scheme, reader, target, min_labelled, stride, store, within)
    with atomic_write(path) as partial:
        table.to_csv(partial, index=False)
    return table


def _table(
    slide: Slide,
    item: Mapping[str, Any],
    scheme: ClassScheme,
    reader: PatchReader,
    target: FieldOfView,
    min_labelled: float,
    stride: int,
    store: SlideStore,
    within: FieldOfView | None,
) -> pd.DataFrame:
    labels = store.labels(item)
    mpp = reader.actual_mpp(slide, target.mpp)
    down, across = slide.pixel(mpp)
    height, width = target.size * down, target.size * across
    least = min_labelled * target.size**2
    tile = None if within is None else slide.pixel(reader.actual_mpp(slide, within.mpp) * within.size)
    found: list[tuple] = []
    tops, lefts = np.arange(0, slide.shape[0], stride * down), np.arange(0, slide.shape[1], stride * across)
    if tile is not None:
        tops, lefts = tops[_in_one(tops, height, tile[0])], lefts[_in_one(lefts, width, tile[1])]
    for top in tqdm(tops, desc=f"indexing {slide.name}", unit="row", delay=3, leave=False):
        for left in lefts:
            if not labels.touches(slide, top, left, height, width):
                continue
            center = (top + height / 2, left + width / 2)
            counts = np.bincount(labels.label_map(slide, center, mpp, target.size).ravel(), minlength=len(scheme) + 1)[
                1:
            ]
            if counts.sum() > least:
                found.append((*center, *counts.tolist()))
    return pd.DataFrame(found, columns=["row", "column", *scheme.names])


def _in_one(starts: np.ndarray, size: float, cell: float) -> np.ndarray:
    """Whether ``[start, start + size]`` lies in one cell of a grid, a millionth of a cell aside."""
    return np.floor(starts / cell + 1e-6) == np.ceil((starts + size) / cell - 1e-6) - 1

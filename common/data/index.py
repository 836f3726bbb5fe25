"""List the targets of each slide that hold labelled pixels."""

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
from .distributed import map_distributed
from .store import SlideStore, label_fingerprint

logger = logging.getLogger(__name__)
# Raised when the meaning of a cached table changes.
_FORMAT = 3


@dataclass(frozen=True)
class PatchIndex:
    """The kept targets of a datalist, one row each.

    Attributes:
        rows: ``slide`` (position in the datalist), ``row`` and ``column`` (centre, level-0 pixels), one column of
            labelled pixels per class, and ``deformation``: -1, or the seed of the elastic deformation.
        class_names: classes in label order.
    """

    rows: pd.DataFrame
    class_names: tuple[str, ...]

    def pixels_per_class(self) -> list[int]:
        """Return the number of labelled pixels of each class over all rows."""
        return [int(self.rows[name].sum()) for name in self.class_names]

    def select(self, kept: Sequence[int] | np.ndarray) -> PatchIndex:
        """Return an index of some of the rows.

        Args:
            kept: positions of rows, which set their order, or a mask with one value per row.
        """
        positions = np.arange(len(self.rows))[np.asarray(kept)]
        return PatchIndex(self.rows.iloc[positions].reset_index(drop=True), self.class_names)


@dataclass(frozen=True)
class TargetGrid:
    """A grid of targets from the top left corner of each slide, and the rule that decides which of them are kept.

    Args:
        reader: decides the sampling grid on which each slide is read.
        target: field of view that is predicted.
        min_labelled: share of a target's pixels of which more must be labelled (Ho et al. 2021: 0.01); 0 keeps every
            target with a labelled pixel.
        stride: step of the grid in target pixels; the target's size by default.
        within: keep only targets that lie within one tile of a second grid, of this field of view, from the same
            corner.
    """

    reader: PatchReader
    target: FieldOfView
    min_labelled: float = 0.01
    stride: int | None = None
    within: FieldOfView | None = None

    def settings(self) -> list[Any]:
        """Return everything that decides a slide's targets, for the keys of cached tables.

        A change in this list makes every cached table on users' disks unknown.
        """
        views = [asdict(view) for view in self.reader.fields_of_view]
        within = None if self.within is None else asdict(self.within)
        stride = self.stride or self.target.size
        return [asdict(self.target), stride, self.min_labelled, views, self.reader.snap, within]

    def mpp_on(self, slide: Slide) -> float:
        """Return the µm/px at which the targets of a slide are read."""
        return self.reader.effective_mpp(slide, self.target.mpp)

    def extent_on(self, slide: Slide) -> tuple[float, float]:
        """Return height and width of a target in level-0 pixels."""
        down, across = slide.level0_pixels(self.mpp_on(slide))
        return self.target.size * down, self.target.size * across

    def corners_on(self, slide: Slide) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and the columns of the targets' top left corners, in level-0 pixels."""
        stride = self.stride or self.target.size
        steps = [stride * side for side in slide.level0_pixels(self.mpp_on(slide))]
        tops, lefts = (np.arange(0, length, step) for length, step in zip(slide.shape, steps, strict=True))
        if self.within is None:
            return tops, lefts
        tile = slide.level0_pixels(self.reader.effective_mpp(slide, self.within.mpp) * self.within.size)
        height, width = self.extent_on(slide)
        return tops[_in_one_tile(tops, height, tile[0])], lefts[_in_one_tile(lefts, width, tile[1])]


def build_patch_index(
    data: Sequence[Mapping[str, Any]],
    scheme: ClassScheme,
    grid: TargetGrid,
    cache_dir: str | Path | None = None,
    store: SlideStore | None = None,
) -> PatchIndex:
    """List the targets of every slide that are labelled enough. Where several processes train together, each indexes
    its share of the slides.

    Args:
        data: datalist entries.
        scheme: the classes.
        grid: the targets, and which of them are kept.
        cache_dir: folder for finished tables, which are known by slide, content of the annotation and settings.
        store: slides and annotations that are open already, with the same classes.

    Raises:
        ValueError: no target is left.
        SlideError, AnnotationError: a slide or annotation cannot be read.
    """
    folder = None if cache_dir is None else Path(as_path(cache_dir))
    opened = store or SlideStore(scheme)
    tables = map_distributed(lambda entry: _cached_table(entry, scheme, grid, folder, opened), data, "indexing slides")
    for number, table in enumerate(tables):
        table.insert(0, "slide", number)
    rows = pd.concat(tables, ignore_index=True)
    if rows.empty:
        raise ValueError(
            f"no target of {len(data)} slides is annotated on more than {grid.min_labelled:.2%} of its pixels. "
            "Annotate more, or lower min_labelled"
        )
    rows["deformation"] = -1
    return PatchIndex(rows, tuple(scheme.names))


def _cached_table(
    entry: Mapping[str, Any], scheme: ClassScheme, grid: TargetGrid, folder: Path | None, store: SlideStore
) -> pd.DataFrame:
    slide = store.slide(entry)
    if folder is None:
        return _table(slide, entry, scheme, grid, store)
    path = folder / f"{safe_name(slide.name)}-{_table_key(slide, entry, scheme, grid)}.csv"
    if path.exists():
        return pd.read_csv(path)
    table = _table(slide, entry, scheme, grid, store)
    with atomic_write(path) as partial:
        table.to_csv(partial, index=False)
    return table


def _table_key(slide: Slide, entry: Mapping[str, Any], scheme: ClassScheme, grid: TargetGrid) -> str:
    """Return a hash of everything that decides a slide's table."""
    state = slide.files.state
    # A slide of one file, or without a series, keeps the key that it had before there were others.
    later: list[Any] = [] if slide.series is None else [slide.series]
    later += [{"modified": state.modified}] if has_several_files(slide.path) else []
    fingerprint = {
        "format": _FORMAT,
        "slide": [slide.path.name, state.size, slide.shape, slide.mpp, *later],
        "labels": [*label_fingerprint(entry), scheme.names],
        "grid": grid.settings(),
    }
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _table(
    slide: Slide, entry: Mapping[str, Any], scheme: ClassScheme, grid: TargetGrid, store: SlideStore
) -> pd.DataFrame:
    """Return the centre (level-0 pixels) and the labelled pixels per class of each kept target."""
    labels, mpp, size = store.labels(entry), grid.mpp_on(slide), grid.target.size
    height, width = grid.extent_on(slide)
    tops, lefts = grid.corners_on(slide)
    rows: list[tuple] = []
    for top in tqdm(tops, desc=f"indexing {slide.name}", unit="row", delay=3, leave=False):
        for left in lefts:
            if not labels.touches(slide, top, left, height, width):
                continue
            center = (top + height / 2, left + width / 2)
            label_map = labels.label_map(slide, center, mpp, size)
            counts = np.bincount(label_map.ravel(), minlength=len(scheme) + 1)[1:]
            if counts.sum() > grid.min_labelled * size**2:
                rows.append((*center, *counts.tolist()))
    return pd.DataFrame(rows, columns=["row", "column", *scheme.names])


def _in_one_tile(starts: np.ndarray, size: float, tile: float) -> np.ndarray:
    """Return whether each ``[start, start + size]`` lies in one tile of a grid; a millionth of a tile may lie over."""
    return np.floor(starts / tile + 1e-6) == np.ceil((starts + size) / tile - 1e-6) - 1

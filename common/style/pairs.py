"""Patches of tissue of two sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..classes import ClassScheme
from ..data import MultiMagnificationPatchDataset, all_sections, load_datalist
from ..slides import FieldOfView
from ..transforms import LoadMultiMagnificationPatchd


def tissue_entries(
    datalist: str | Path, columns: Mapping[str, Any], sections: Sequence[str] = ("training", "unlabelled")
) -> list[dict[str, Any]]:
    """Entries of a datalist whose columns have some values, for all their tissue and without their annotations.

    Args:
        datalist: its path.
        columns: column -> value, such as ``{"scanner": "A"}``.
        sections: where to look, as far as the datalist has them.

    Raises:
        ValueError: no slide has these values.
    """
    there = all_sections(datalist)
    items = [
        item
        for section in sections
        if section in there
        for item in load_datalist(datalist, section, require_label=False)
    ]
    fitting = [item for item in items if all(str(item.get(column)) == str(value) for column, value in columns.items())]
    if not fitting:
        described = ", ".join(f"{column} {value}" for column, value in columns.items())
        raise ValueError(f"{datalist}: no slide to learn a style from has {described}")
    kept = ("image", "mpp", "backend")
    return [{key: item[key] for key in kept if key in item} for item in fitting]


class StylePairs(Dataset):
    """Pairs of patches that have nothing to do with each other: one to change, and one of the style to change it to.

    An item has ``image`` and ``style``, both ``(3, size, size)`` float32 in [0, 1].

    Args:
        source, target: entries of :func:`tissue_entries`.
        view: of the patches; its size is a multiple of 4.
        count: pairs per epoch.
        seed: of the draws.
        fill, resample: see :class:`PatchReader`.
        cache_dir: for the patch index.
    """

    def __init__(
        self,
        source: Sequence[Mapping[str, Any]],
        target: Sequence[Mapping[str, Any]],
        view: FieldOfView | Mapping[str, Any],
        count: int,
        seed: int = 0,
        fill: str = "white",
        resample: str = "area",
        cache_dir: str | Path | None = None,
    ) -> None:
        self.count, self.seed = count, seed
        view = FieldOfView.of(view)
        load = LoadMultiMagnificationPatchd("image", [view], None, fill=fill, resample=resample)
        self._patches = [_tissue_patches(entries, view, load, cache_dir) for entries in (source, target)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, number])
        image, style = (patches[int(rng.integers(len(patches)))] for patches in self._patches)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return {"image": _scaled(image["image"], 0, False), "style": _scaled(style["image"], turns, mirrored)}


def _tissue_patches(
    entries: Sequence[Mapping[str, Any]], view: FieldOfView, load: Callable, cache_dir: str | Path | None
) -> MultiMagnificationPatchDataset:
    """Patches at least half of which is tissue by Otsu's threshold."""
    tissue = ClassScheme([{"name": "tissue", "color": (0, 0, 0), "label": 1, "channel": 0}])
    bare = {"class": "tissue", "within": "tissue"}
    data = [{**entry, "unannotated": bare} for entry in entries]
    return MultiMagnificationPatchDataset(data, tissue, [view], view, load, min_labelled=0.5, cache_dir=cache_dir)


def _scaled(image: np.ndarray, turns: int, mirrored: bool) -> torch.Tensor:
    turned = np.rot90(image, turns, axes=(1, 2))
    return torch.from_numpy(np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)).float() / 255

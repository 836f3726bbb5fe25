"""Patches of tissue of two sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.tissue_patches import tissue_patches
from ..slides import FieldOfView


class StylePairs(Dataset):
    """Pairs of patches that have nothing to do with each other: one to change, and one of the style to change it to.

    An item has ``image`` and ``style``, both ``(3, size, size)`` float32 in [0, 1]. Every epoch draws other pairs.

    Args:
        source, target: entries of a datalist.
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
        self._patches = [tissue_patches(entries, [view], fill, resample, cache_dir) for entries in (source, target)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        # torch's generator, which a loader seeds again in every epoch and worker.
        rng = np.random.default_rng([self.seed, number, int(torch.randint(2**31, ()))])
        image, style = (patches[int(rng.integers(len(patches)))]["image"] for patches in self._patches)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return {"image": _scaled(image, 0, False), "style": _scaled(style, turns, mirrored)}


def _scaled(image: np.ndarray, turns: int, mirrored: bool) -> torch.Tensor:
    turned = np.rot90(image, turns, axes=(1, 2))
    return torch.from_numpy(np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)).float() / 255

"""Pairs of patches from two sources of slides."""

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
    """Unrelated pairs of patches: one to change, and one in the style to change it to.

    An item has ``image`` and ``style``, both ``(3, size, size)`` float32 in [0, 1]. Pairs differ in every epoch.

    Args:
        source: datalist entries of the slides to change.
        target: datalist entries of slides in the wanted style.
        view: field of view of the patches; its size is a multiple of 4.
        count: pairs per epoch.
        seed: random seed of the pairs.
        fill, resample: see :class:`PatchReader`.
        cache_dir: folder of the patch index.

    Example::

        pairs = StylePairs([{"image": "a.svs"}], [{"image": "b.svs"}], {"mpp": 0.5, "size": 256}, count=2000)
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
        # Data loaders seed torch's generator in every epoch and worker.
        rng = np.random.default_rng([self.seed, number, int(torch.randint(2**31, ()))])
        image, style = (patches[int(rng.integers(len(patches)))]["image"] for patches in self._patches)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return {"image": _scaled(image, 0, False), "style": _scaled(style, turns, mirrored)}


def _scaled(image: np.ndarray, turns: int, mirrored: bool) -> torch.Tensor:
    turned = np.rot90(image, turns, axes=(1, 2))
    return torch.from_numpy(np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)).float() / 255

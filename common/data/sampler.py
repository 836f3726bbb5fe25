"""Sample patches so that every batch shows every class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from .dataset import MultiMagnificationPatchDataset


class ClassCycleSampler(Sampler[int]):
    """A sampler that cycles through the classes, with the patches of each in random order.

    If a batch is as long as the cycle, every batch has every class. In small random batches, classes that look alike
    rarely meet; their common bias then swings from batch to batch and drowns the small difference between them.

    Args:
        dataset: the patches.
        cycle: class names in the order in which they take turns; a name may appear more than once. Classes without a
            labelled pixel are skipped if the dataset allows them to be missing.
        num_samples: patches per epoch.
        seed: random seed of the order.
        share: a patch belongs to the classes that have at least this share of its labelled pixels. A class that may be
            missing, and has this share of no patch, gets every patch with a pixel of it.

    Raises:
        ValueError: a class of the cycle has no patch and may not be missing, or no class has any.
    """

    def __init__(
        self,
        dataset: MultiMagnificationPatchDataset,
        cycle: Sequence[str],
        num_samples: int,
        seed: int = 0,
        share: float = 0.1,
    ) -> None:
        self.num_samples = num_samples
        self._rng = np.random.default_rng(seed)
        names = list(dataset.index.class_names)
        unknown = sorted(set(cycle) - set(names))
        if unknown:
            raise ValueError(f"the cycle names no classes of the scheme: {', '.join(unknown)}")
        pixels = dataset.index.rows[names].to_numpy(dtype=np.float64)
        shares = pixels / pixels.sum(axis=1, keepdims=True)
        self._members = {name: np.nonzero(shares[:, names.index(name)] >= share)[0] for name in set(cycle)}
        for name, members in self._members.items():
            if not len(members) and dataset.allows_missing(name):
                self._members[name] = np.nonzero(shares[:, names.index(name)] > 0)[0]
        self.cycle = tuple(name for name in cycle if len(self._members[name]) or not dataset.allows_missing(name))
        empty = sorted(name for name in set(self.cycle or cycle) if not len(self._members[name]))
        if empty:
            raise ValueError(
                f"no patch of {', '.join(empty)} with {share:.0%} of its labelled pixels to sample; take it out of the "
                "cycle, or lower share"
            )
        self._streams = {name: self._endless(self._members[name]) for name in set(self.cycle)}

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        for number in range(self.num_samples):
            yield next(self._streams[self.cycle[number % len(self.cycle)]])

    def _endless(self, members: np.ndarray) -> Iterator[int]:
        while True:
            yield from self._rng.permutation(members).tolist()

"""Select patches by the classes in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .index import PatchIndex

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchSubset:
    """A random subset with a number of patches that show some classes and a number of patches that do not.

    All patches are taken where there are fewer.

    Source: Li et al. 2020, section IV-A: 2,000 with benign or in situ, 1,000 without.

    Args:
        classes: names of the classes.
        containing: number of patches with a pixel of one of them.
        others: number of patches without.
        seed: random seed of the draw.
    """

    classes: Sequence[str]
    containing: int = 2000
    others: int = 1000
    seed: int = 0

    def apply(self, index: PatchIndex) -> PatchIndex:
        """Return the selected patches, in the index's order.

        Raises:
            ValueError: a class is unknown.
        """
        unknown = sorted(set(self.classes) - set(index.class_names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)} to choose patches by; there are {index.class_names}")
        has = index.rows[list(self.classes)].to_numpy().sum(axis=1) > 0
        rng = np.random.default_rng(self.seed)
        kept: list[int] = []
        for rows, count in ((np.nonzero(has)[0], self.containing), (np.nonzero(~has)[0], self.others)):
            kept += rng.permutation(rows)[:count].tolist()
        logger.info(
            "chosen: %d of %d patches with %s, %d of %d without",
            min(int(has.sum()), self.containing),
            has.sum(),
            " or ".join(self.classes),
            min(int((~has).sum()), self.others),
            (~has).sum(),
        )
        return index.select(sorted(kept))


@dataclass(frozen=True)
class PatchesPerClass:
    """A random subset with a bounded number of patches of every class, so that validation takes the same time however
    many slides there are.

    Args:
        count: number of patches drawn for each class among those with a pixel of it; all where there are fewer.
        seed: random seed of the draw.
    """

    count: int = 32
    seed: int = 0

    def apply(self, index: PatchIndex) -> PatchIndex:
        """Return the selected patches, in the index's order. A patch drawn for two classes appears once."""
        rng = np.random.default_rng(self.seed)
        kept: set[int] = set()
        for name in index.class_names:
            kept.update(rng.permutation(np.nonzero(index.rows[name].to_numpy() > 0)[0])[: self.count].tolist())
        logger.info("chosen: %d of %d patches, up to %d for each class", len(kept), len(index.rows), self.count)
        return index.select(sorted(kept))

"""Patches chosen by the classes in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .index import PatchIndex

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchChoice:
    """So many patches with a pixel of some classes, and so many without, drawn at random; all where there are fewer.

    Source: Li et al. 2020, section IV-A: 2,000 with benign or in situ, 1,000 without.

    Args:
        classes: their names.
        containing: patches with a pixel of one of them.
        others: patches without.
        seed: of the draw.
    """

    classes: Sequence[str]
    containing: int = 2000
    others: int = 1000
    seed: int = 0

    def of(self, index: PatchIndex) -> PatchIndex:
        """The chosen patches, in the index's order.

        Raises:
            ValueError: a class that there is not.
        """
        unknown = sorted(set(self.classes) - set(index.class_names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)} to choose patches by; there are {index.class_names}")
        has = index.rows[list(self.classes)].to_numpy().sum(axis=1) > 0
        rng = np.random.default_rng(self.seed)
        kept: list[int] = []
        for rows, wanted in ((np.nonzero(has)[0], self.containing), (np.nonzero(~has)[0], self.others)):
            kept += rng.permutation(rows)[:wanted].tolist()
        logger.info(
            "chosen: %d of %d patches with %s, %d of %d without",
            min(int(has.sum()), self.containing),
            has.sum(),
            " or ".join(self.classes),
            min(int((~has).sum()), self.others),
            (~has).sum(),
        )
        return index.of_rows(sorted(kept))


@dataclass(frozen=True)
class PatchesPerClass:
    """A bounded number of patches in which every class is shown: for validation in a time that does not grow with the
    slides.

    Args:
        count: patches drawn at random for each class among those with a pixel of it; all where there are fewer.
        seed: random seed of the draw.
    """

    count: int = 32
    seed: int = 0

    def of(self, index: PatchIndex) -> PatchIndex:
        """Return the chosen patches, in the index's order. A patch that was drawn for two classes comes once."""
        rng = np.random.default_rng(self.seed)
        kept: set[int] = set()
        for name in index.class_names:
            kept.update(rng.permutation(np.nonzero(index.rows[name].to_numpy() > 0)[0])[: self.count].tolist())
        logger.info("chosen: %d of %d patches, up to %d for each class", len(kept), len(index.rows), self.count)
        return index.of_rows(sorted(kept))

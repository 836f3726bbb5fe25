"""Features of a region from its label map: the frequency of labels among superpixels, and of labels that touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..superpixels import Superpixels


@dataclass(frozen=True)
class LabelHistograms:
    """Counts of a region's superpixels.

    Attributes:
        names: class names in label order.
        frequency: number of superpixels of each label, ``(C,)``.
        cooccurrence: number of pairs of touching superpixels by their labels, ``(C, C)``, the lower label first; 0
            below the diagonal.
    """

    names: tuple[str, ...]
    frequency: np.ndarray
    cooccurrence: np.ndarray

    @classmethod
    def count(cls, found: Superpixels, labels: np.ndarray, names: Sequence[str]) -> LabelHistograms:
        """Count superpixels and pairs that touch. Superpixels without a label (0) are left out.

        Args:
            found: superpixels of a region.
            labels: label of each superpixel, ``(count,)``.
            names: class names in label order.
        """
        classes = len(names)
        frequency = np.bincount(labels, minlength=classes + 1)[1:]
        pairs = np.sort(labels[found.neighbours()].astype(np.int64), axis=1)
        pairs = pairs[pairs[:, 0] > 0] - 1
        cooccurrence = np.bincount(pairs[:, 0] * classes + pairs[:, 1], minlength=classes**2)
        return cls(tuple(names), frequency, cooccurrence.reshape(classes, classes))

    def plus(self, other: LabelHistograms) -> LabelHistograms:
        """Return the counts of two regions of the same classes together."""
        return LabelHistograms(self.names, self.frequency + other.frequency, self.cooccurrence + other.cooccurrence)

    def features(self, without: Sequence[str] = ()) -> np.ndarray:
        """Return each label's share of superpixels, then each pair's share of pairs, ``(C + C (C + 1) / 2,)`` float.
        They are 0 if no superpixel is left.

        Args:
            without: names of classes to leave out, as if their superpixels did not exist.

        Raises:
            ValueError: there is no such class.

        Source: Mehta et al. 2018, section 6.2.
        """
        unknown = sorted(set(without) - set(self.names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)} in label maps of {', '.join(self.names)}")
        kept = [i for i, name in enumerate(self.names) if name not in without]
        frequency = self.frequency[kept]
        cooccurrence = self.cooccurrence[np.ix_(kept, kept)][np.triu_indices(len(kept))]
        return np.concatenate([part / max(part.sum(), 1) for part in (frequency, cooccurrence)])

    def to_json(self) -> dict[str, list]:
        """Return the counts as JSON holds them."""
        return {
            "names": list(self.names),
            "frequency": self.frequency.tolist(),
            "cooccurrence": self.cooccurrence.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, list]) -> LabelHistograms:
        """Return the counts that :meth:`to_json` wrote."""
        return cls(tuple(content["names"]), np.array(content["frequency"]), np.array(content["cooccurrence"]))

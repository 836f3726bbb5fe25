"""What a label map says of a region: how often its superpixels have each label, and which labels meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..superpixels import Superpixels


@dataclass(frozen=True)
class LabelHistograms:
    """Counts of a region's superpixels.

    Attributes:
        names: the classes, in label order.
        frequency: superpixels of each label, ``(C,)``.
        cooccurrence: pairs of touching superpixels by their labels, ``(C, C)``, the smaller label first; below the
            diagonal 0.
    """

    names: tuple[str, ...]
    frequency: np.ndarray
    cooccurrence: np.ndarray

    @classmethod
    def of(cls, found: Superpixels, labels: np.ndarray, names: Sequence[str]) -> LabelHistograms:
        """Count superpixels and the pairs that touch; those without a label (0) are left out.

        Args:
            found: superpixels of a region.
            labels: the label of each, ``(count,)``.
            names: the classes, in label order.
        """
        classes = len(names)
        frequency = np.bincount(labels, minlength=classes + 1)[1:]
        pairs = np.sort(labels[found.neighbours()].astype(np.int64), axis=1)
        pairs = pairs[pairs[:, 0] > 0] - 1
        cooccurrence = np.bincount(pairs[:, 0] * classes + pairs[:, 1], minlength=classes**2)
        return cls(tuple(names), frequency, cooccurrence.reshape(classes, classes))

    def plus(self, other: LabelHistograms) -> LabelHistograms:
        """Of two regions together, of the same classes."""
        return LabelHistograms(self.names, self.frequency + other.frequency, self.cooccurrence + other.cooccurrence)

    def features(self, without: Sequence[str] = ()) -> np.ndarray:
        """Shares of all superpixels, then shares of all pairs, ``(C + C (C + 1) / 2,)``; of a region of which nothing
        is left, zeros.

        Args:
            without: classes that are left out, as if their superpixels were not there.

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

    def described(self) -> dict[str, list]:
        """As JSON holds it."""
        return {
            "names": list(self.names),
            "frequency": self.frequency.tolist(),
            "cooccurrence": self.cooccurrence.tolist(),
        }

    @classmethod
    def read(cls, content: dict[str, list]) -> LabelHistograms:
        """From what :meth:`described` gave."""
        return cls(tuple(content["names"]), np.array(content["frequency"]), np.array(content["cooccurrence"]))

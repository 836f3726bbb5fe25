"""The questions that are asked of a region, and classifiers that answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

CLASSIFIERS = ("SVM", "MLP")


@dataclass(frozen=True)
class Task:
    """Which diagnoses are told from which.

    Attributes:
        name: in tables.
        groups: answer -> diagnoses; regions with other diagnoses are left out.
        pathologists: the accuracy of pathologists on the paper's slides, where it is known.
    """

    name: str
    groups: Mapping[str, Sequence[str]]
    pathologists: float | None = None

    @classmethod
    def of(cls, value: Task | Mapping[str, Any]) -> Task:
        """From itself, or from a mapping as configs hold them.

        Raises:
            ValueError: fewer than two answers, or a diagnosis in two of them.
        """
        task = value if isinstance(value, Task) else cls(**value)
        listed = [diagnosis for group in task.groups.values() for diagnosis in group]
        if len(task.groups) < 2 or len(set(listed)) < len(listed):
            raise ValueError(f"task {task.name!r}: at least two answers, and no diagnosis in two of them")
        return task

    @property
    def answers(self) -> list[str]:
        """In the order of their numbers."""
        return list(self.groups)

    def numbers(self, diagnoses: Sequence[str]) -> np.ndarray:
        """The number of each region's answer, -1 for those left out."""
        known = {diagnosis: i for i, group in enumerate(self.groups.values()) for diagnosis in group}
        return np.array([known.get(diagnosis, -1) for diagnosis in diagnoses])


def classifier(kind: str, seed: int = 0) -> Pipeline:
    """Features brought to mean 0 and standard deviation 1, then ``"SVM"`` (radial basis functions) or ``"MLP"`` (one
    hidden layer of 16), both with scikit-learn's defaults otherwise; the paper does not describe its own.

    Raises:
        ValueError: another kind.
    """
    if kind == "SVM":
        return make_pipeline(StandardScaler(), SVC(random_state=seed))
    if kind == "MLP":
        machine = MLPClassifier((16,), solver="lbfgs", alpha=1.0, max_iter=500, random_state=seed)
        return make_pipeline(StandardScaler(), machine)
    raise ValueError(f"classifier must be one of {', '.join(CLASSIFIERS)}, not {kind!r}")


def balanced(numbers: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Positions of as many members of every class as the rarest has, drawn without repetition."""
    rarest = np.bincount(numbers).min()
    drawn = [random.permutation(np.nonzero(numbers == value)[0])[:rarest] for value in np.unique(numbers)]
    return np.sort(np.concatenate(drawn))

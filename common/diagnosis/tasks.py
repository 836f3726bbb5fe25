"""Diagnostic tasks, and the classifiers that solve them."""

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
class DiagnosisTask:
    """A diagnostic task: to tell groups of diagnoses apart.

    Attributes:
        name: name in tables.
        groups: answer -> its diagnoses; regions with other diagnoses are left out.
        pathologists: accuracy of pathologists on the paper's slides, from 0 to 1; None if unknown.
    """

    name: str
    groups: Mapping[str, Sequence[str]]
    pathologists: float | None = None

    @classmethod
    def from_config(cls, value: DiagnosisTask | Mapping[str, Any]) -> DiagnosisTask:
        """Return the task in a mapping of a config.

        Raises:
            ValueError: there are fewer than two answers, or a diagnosis belongs to two of them.
        """
        task = value if isinstance(value, DiagnosisTask) else cls(**value)
        listed = [diagnosis for group in task.groups.values() for diagnosis in group]
        if len(task.groups) < 2 or len(set(listed)) < len(listed):
            raise ValueError(f"task {task.name!r}: at least two answers, and no diagnosis in two of them")
        return task

    @property
    def answers(self) -> list[str]:
        """Return the answers in the order of their numbers."""
        return list(self.groups)

    def numbers(self, diagnoses: Sequence[str]) -> np.ndarray:
        """Return the number of each region's answer, -1 for regions that are left out."""
        known = {diagnosis: i for i, group in enumerate(self.groups.values()) for diagnosis in group}
        return np.array([known.get(diagnosis, -1) for diagnosis in diagnoses])


def classifier(kind: str, seed: int = 0) -> Pipeline:
    """Return a classifier of features that are scaled to mean 0 and standard deviation 1.

    Otherwise it has scikit-learn's defaults; the paper does not describe its own.

    Args:
        kind: ``"SVM"`` (radial basis functions) or ``"MLP"`` (one hidden layer of 16).
        seed: random seed of the classifier.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind == "SVM":
        return make_pipeline(StandardScaler(), SVC(random_state=seed))
    if kind == "MLP":
        machine = MLPClassifier((16,), solver="lbfgs", alpha=1.0, max_iter=500, random_state=seed)
        return make_pipeline(StandardScaler(), machine)
    raise ValueError(f"classifier must be one of {', '.join(CLASSIFIERS)}, not {kind!r}")


def balanced(numbers: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return indices of as many members of every class as the rarest has, sampled without replacement."""
    rarest = np.bincount(numbers).min()
    sample = [random.permutation(np.nonzero(numbers == value)[0])[:rarest] for value in np.unique(numbers)]
    return np.sort(np.concatenate(sample))

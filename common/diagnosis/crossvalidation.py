"""Repeated cross-validation in which no case is in both the training and the test set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from .tasks import DiagnosisTask, balanced, classifier


@dataclass(frozen=True)
class CrossValidationResult:
    """Accuracies of a repeated cross-validation.

    Attributes:
        accuracies: accuracy of each repetition, over the regions of all its folds.
        confusion: number of regions by true (row) and predicted (column) answer, mean over the repetitions.
    """

    accuracies: np.ndarray
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """Return the mean accuracy over the repetitions."""
        return float(self.accuracies.mean())

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the accuracy over the repetitions."""
        return float(self.accuracies.std(ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def mean_recall(self) -> float:
        """Return the mean recall over the answers, each with the same weight however many regions it has."""
        return float((np.diag(self.confusion) / self.confusion.sum(axis=1)).mean())


def check_enough(task: DiagnosisTask, numbers: np.ndarray, cases: Sequence[str], folds: int) -> None:
    """Check that there are enough regions and cases for a number of folds.

    Args:
        task: the task.
        numbers: number of each region's answer, -1 for regions that are left out.
        cases: case of each region.
        folds: number of folds.

    Raises:
        ValueError: there are too few; names the task and the answer.
    """
    for number, answer in enumerate(task.answers):
        of_answer = {case for case, found in zip(cases, numbers, strict=True) if found == number}
        if len(of_answer) < 2:
            raise ValueError(
                f"task {task.name!r}: {len(of_answer)} cases of {answer!r}, at least 2 are needed. Add regions, or "
                "leave the task out"
            )
    asked = numbers[numbers >= 0]
    most = min(len({case for case, found in zip(cases, numbers, strict=True) if found >= 0}), np.bincount(asked).max())
    if folds > most:
        raise ValueError(f"task {task.name!r}: too few regions and cases for {folds} folds, ask for {most} at most")


def folds(numbers: np.ndarray, cases: Sequence[str], count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices of the training and of the test regions of each fold. Every region is tested once, and no case
    is in both.

    Args:
        numbers: number of each region's answer.
        cases: case of each region.
        count: number of folds.
        seed: random seed of the assignment of cases to folds.

    Raises:
        ValueError: there are fewer cases than folds.
    """
    if len(set(cases)) < count:
        raise ValueError(f"{len(set(cases))} cases are too few for {count} folds. Add cases, or ask for fewer folds")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of an answer with fewer cases than folds, of which some folds then have none to test.
        warnings.simplefilter("ignore", UserWarning)
        yield from splitter.split(np.zeros(len(numbers)), numbers, np.asarray(cases))


def cross_validate(
    features: np.ndarray,
    numbers: np.ndarray,
    cases: Sequence[str],
    kind: str,
    count: int = 10,
    repeats: int = 10,
    seed: int = 0,
) -> CrossValidationResult:
    """Return the accuracy of a classifier on regions of cases that it has not seen.

    In training, as many regions of every answer are sampled as the rarest has. Scaling, too, is fitted to these alone.

    Args:
        features: ``(regions, F)``.
        numbers: number of each region's answer, from 0.
        cases: case of each region.
        kind: kind of the classifier; see :func:`classifier`.
        count: number of folds.
        repeats: number of repetitions, each with other folds.
        seed: random seed of folds, samples and classifiers.

    Raises:
        ValueError: there are too few cases.

    Source: Mehta et al. 2018, section 6.2.
    """
    answers = int(numbers.max()) + 1
    accuracies, confusion = [], np.zeros((answers, answers))
    for repeat in range(repeats):
        predicted = np.empty_like(numbers)
        for fold, (learn, test) in enumerate(folds(numbers, cases, count, seed + repeat)):
            if len(np.unique(numbers[learn])) < answers:
                raise ValueError(f"fold {fold + 1} leaves no region of some answer to learn from. Ask for more folds")
            sample = learn[balanced(numbers[learn], np.random.default_rng([seed, repeat, fold]))]
            fitted = classifier(kind, seed + repeat).fit(features[sample], numbers[sample])
            predicted[test] = fitted.predict(features[test])
        accuracies.append(float((predicted == numbers).mean()))
        np.add.at(confusion, (numbers, predicted), 1 / repeats)
    return CrossValidationResult(np.array(accuracies), confusion)

"""Repeated cross-validation in which no case is on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from .tasks import Task, balanced, classifier


@dataclass(frozen=True)
class Found:
    """What cross-validation found.

    Attributes:
        accuracies: of each repetition, over the regions of all its folds.
        confusion: regions by true (row) and predicted (column) answer, mean of the repetitions.
    """

    accuracies: np.ndarray
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.accuracies.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation over the repetitions."""
        return float(self.accuracies.std(ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def mean_recall(self) -> float:
        """Mean over the answers, each of which counts alike however many regions it has."""
        return float((np.diag(self.confusion) / self.confusion.sum(axis=1)).mean())


def check_enough(task: Task, numbers: np.ndarray, cases: Sequence[str], folds: int) -> None:
    """Raise ValueError, naming task and answer, if regions are too few for so many folds.

    Args:
        task: what is asked.
        numbers: the answer of each region, -1 for those left out.
        cases: the case of each region.
        folds: how many are wanted.
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
    """Positions to learn from and positions to test on, ``count`` times; every region is tested once, and no case is
    in both.

    Args:
        numbers: the answer of each region.
        cases: the case of each region.
        count: how many folds.
        seed: of how cases are dealt.

    Raises:
        ValueError: fewer cases than folds.
    """
    if len(set(cases)) < count:
        raise ValueError(f"{len(set(cases))} cases are too few for {count} folds. Add cases, or ask for fewer folds")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # That an answer has fewer cases than folds: some folds then have none of it to test.
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
) -> Found:
    """Accuracy of a classifier on regions of cases that it has not seen.

    Of what is learnt from, as many regions of every answer are drawn as the rarest has; scaling, too, is learnt from
    these alone.

    Args:
        features: ``(regions, F)``.
        numbers: the answer of each region, from 0.
        cases: the case of each region.
        kind: see :func:`classifier`.
        count: folds.
        repeats: how often, each time with other folds.
        seed: of folds, draws and classifiers.

    Raises:
        ValueError: too few cases.

    Source: Mehta et al. 2018, section 6.2.
    """
    answers = int(numbers.max()) + 1
    accuracies, confusion = [], np.zeros((answers, answers))
    for repeat in range(repeats):
        predicted = np.empty_like(numbers)
        for fold, (learn, test) in enumerate(folds(numbers, cases, count, seed + repeat)):
            if len(np.unique(numbers[learn])) < answers:
                raise ValueError(f"fold {fold + 1} leaves no region of some answer to learn from. Ask for more folds")
            drawn = learn[balanced(numbers[learn], np.random.default_rng([seed, repeat, fold]))]
            fitted = classifier(kind, seed + repeat).fit(features[drawn], numbers[drawn])
            predicted[test] = fitted.predict(features[test])
        accuracies.append(float((predicted == numbers).mean()))
        np.add.at(confusion, (numbers, predicted), 1 / repeats)
    return Found(np.array(accuracies), confusion)

"""Scores of confusion matrices and label maps, and the metrics that select a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from ..losses.cross_entropy import WeightedCrossEntropyLoss
from .batch import stack_items
from .confusion import batch_confusion, confusion_matrix


def scores(matrix: np.ndarray, names: Sequence[str], classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Return IoU, recall, precision and F1 per class, their unweighted means, and pixel accuracy.

    Args:
        matrix: from :func:`confusion_matrix`.
        names: class names in label order.
        classes: classes that count, all by default. Pixels of other true classes are ignored.

    Returns:
        ``mean_iou``, ``mean_recall``, ``mean_precision``, ``mean_f1``, ``pixel_accuracy``, ``labelled_pixels``,
        ``not_predicted`` (share of labelled pixels) and ``classes``: the results per class. A class without labelled
        pixels has no results (None) and does not enter the means.

    Raises:
        ValueError: ``classes`` names an unknown class.

    Source: Ho et al. 2021, eqs. 3–5.
    """
    if classes is not None:
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)}; there are {', '.join(names)}")
        matrix = np.where(np.isin(names, list(classes))[:, None], matrix, 0)
    square = matrix[:, : len(names)].astype(np.float64)
    tp, support, predicted = np.diag(square), matrix.sum(axis=1).astype(np.float64), square.sum(axis=0)
    present = support > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        results = {
            "iou": tp / (support + predicted - tp),
            "recall": tp / support,
            # 0 for a class that is present but never predicted.
            "precision": np.where(predicted > 0, tp / predicted, 0.0),
            "f1": 2 * tp / (support + predicted),
        }
    total = support.sum()
    summary: dict[str, Any] = {
        f"mean_{name}": float(values[present].mean()) if present.any() else None for name, values in results.items()
    }
    summary["pixel_accuracy"] = float(tp.sum() / total) if total else None
    summary["labelled_pixels"] = int(total)
    summary["not_predicted"] = float(matrix[:, -1].sum() / total) if total else None
    summary["classes"] = {
        name: {
            "labelled_pixels": int(support[i]),
            **{key: float(values[i]) if present[i] else None for key, values in results.items()},
        }
        for i, name in enumerate(names)
        if classes is None or name in classes
    }
    return summary


def bach_score(prediction: np.ndarray, truth: np.ndarray, grades: int = 4) -> float:
    """Return the score of the BACH challenge, pooled over all pixels.

    It is 1 minus the sum of distances between predicted and true grades, divided by the largest possible sum. Pixels
    that are normal in both do not count.

    Args:
        prediction, truth: grades from 0 (normal) to ``grades - 1`` (invasive), of the same shape.
        grades: number of grades.

    Raises:
        ValueError: shapes that differ, or a grade out of this range.

    Source: Li et al. 2020, eqs. 10 and 11; Aresta et al. 2019.
    """
    maps = [np.asarray(grade_map).astype(np.int64) for grade_map in (prediction, truth)]
    if any(part.size and (part.min() < 0 or part.max() >= grades) for part in maps):
        raise ValueError(f"a grade that is none of 0 to {grades - 1}")
    return matrix_bach_score(confusion_matrix(maps[0] + 1, maps[1] + 1, grades))


def matrix_bach_score(matrix: np.ndarray) -> float:
    """Return :func:`bach_score` of a confusion matrix whose classes are grades in label order.

    Pixels without a prediction count as the farthest possible grade.
    """
    grades = len(matrix)
    true, predicted = np.arange(grades)[:, None], np.arange(grades)[None]
    worst = np.maximum(true, grades - 1 - true).repeat(grades + 1, axis=1)
    distance = worst.copy()
    distance[:, :grades] = np.abs(predicted - true)
    # Normal tissue that is predicted normal does not count.
    possible = worst.copy()
    possible[0, 0] = 0
    total = float((matrix * possible).sum())
    return 1.0 - float((matrix * distance).sum()) / total if total else 1.0


def seam_ratio(labels: np.ndarray, target: int) -> float | None:
    """Return the rate of label changes across the seams of a stitched map's targets, divided by the rate elsewhere.

    Args:
        labels: ``(height, width)`` label map of a whole slide; its targets start at the top left corner.
        target: pixels a side of a target.

    Returns:
        share of neighbouring pixels with different labels across seams, divided by the same share away from seams: 1 if
        seams are invisible, more if they are visible. None if no label changes away from seams.
    """
    seams, others = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        changed = np.diff(labels, axis=axis) != 0
        at_seam = np.arange(1, labels.shape[axis]) % target == 0
        share = changed.mean(axis=1 - axis)
        seams += (share[at_seam].sum(), at_seam.sum())
        others += (share[~at_seam].sum(), (~at_seam).sum())
    if not others[0] or not seams[1]:
        return None
    return float((seams[0] / seams[1]) / (others[0] / others[1]))


class MeanIoU(Metric):
    """Mean IoU over the classes that have labelled pixels, from one confusion matrix of all batches (and processes).

    It selects the checkpoint (Ho et al. 2021, section 2.5).

    ``update`` takes ``(logits, labels)``: ``(B, C, h, w)`` and ``(B, 1, h, w)``, or lists of both without the batch
    dimension.

    Args:
        scheme: the classes.
        classes: classes that count, as in :func:`scores`; all by default.
        output_transform, device: as in every ignite metric.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        classes: Sequence[str] | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scheme, self.classes = scheme, classes
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._matrix = torch.zeros(len(self.scheme), len(self.scheme) + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (stack_items(part) for part in output)
        self._matrix += batch_confusion(self.scheme, logits, labels)

    @sync_all_reduce("_matrix")
    def compute(self) -> float:
        mean = scores(self._matrix.cpu().numpy(), self.scheme.names, self.classes)["mean_iou"]
        return 0.0 if mean is None else mean


class PrimaryOutput:
    """An ``output_transform`` that selects the final one of several supervised outputs, and its labels.

    Args:
        scheme: the classes, whose channels every output has.
    """

    def __init__(self, scheme: ClassScheme) -> None:
        self.scheme = scheme

    def __call__(self, output: Sequence[dict[str, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        channels = self.scheme.num_channels
        return [item["pred"][:channels] for item in output], [item["label"][:1] for item in output]


class MeanLoss(Metric):
    """Loss over all pixels of all batches (and processes), as of one batch.

    ``update`` takes ``(logits, labels)`` like :class:`MeanIoU`.

    Args:
        loss: the loss.
        output_transform, device: as in every ignite metric.
    """

    def __init__(
        self,
        loss: WeightedCrossEntropyLoss,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.loss = loss
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (stack_items(part) for part in output)
        with torch.no_grad():
            self._sums += torch.stack(self.loss.sums(logits, labels)).double().cpu()

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        total, divisor = self._sums.tolist()
        if not divisor:
            raise ValueError("no labelled pixel, so the mean loss is undefined")
        return total / divisor

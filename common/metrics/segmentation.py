"""Scores of confusion matrices and label maps, and the metrics that pick a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from ..losses.cross_entropy import WeightedCrossEntropyLoss
from .batch import batched
from .confusion import batch_confusion, confusion_matrix


def scores(matrix: np.ndarray, names: Sequence[str], classes: Sequence[str] | None = None) -> dict[str, Any]:
    """IoU, recall, precision and F1 per class and their plain means, and pixel accuracy.

    Args:
        matrix: from :func:`confusion_matrix`.
        names: class names in label order.
        classes: those that count; pixels of other true classes do not. All by default.

    Returns:
        ``mean_iou``, ``mean_recall``, ``mean_precision``, ``mean_f1``, ``pixel_accuracy``, ``labelled_pixels``,
        ``not_predicted`` (share of labelled pixels) and ``classes``: the figures per class. A class without labelled
        pixels has no figures (None) and does not enter the means.

    Raises:
        ValueError: ``classes`` names one that there is not.

    Source: Ho et al. 2021, eqs. 3–5.
    """
    if classes is not None:
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)}; there are {', '.join(names)}")
        matrix = np.where(np.isin(names, list(classes))[:, None], matrix, 0)
    square = matrix[:, : len(names)].astype(np.float64)
    hit, true, predicted = np.diag(square), matrix.sum(axis=1).astype(np.float64), square.sum(axis=0)
    present = true > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = {
            "iou": hit / (true + predicted - hit),
            "recall": hit / true,
            # Never predicted though present: nothing it said was right.
            "precision": np.where(predicted > 0, hit / predicted, 0.0),
            "f1": 2 * hit / (true + predicted),
        }
    total = true.sum()
    result: dict[str, Any] = {
        f"mean_{name}": float(values[present].mean()) if present.any() else None for name, values in figures.items()
    }
    result["pixel_accuracy"] = float(hit.sum() / total) if total else None
    result["labelled_pixels"] = int(total)
    result["not_predicted"] = float(matrix[:, -1].sum() / total) if total else None
    result["classes"] = {
        name: {
            "labelled_pixels": int(true[i]),
            **{figure: float(values[i]) if present[i] else None for figure, values in figures.items()},
        }
        for i, name in enumerate(names)
        if classes is None or name in classes
    }
    return result


def bach_score(prediction: np.ndarray, truth: np.ndarray, grades: int = 4) -> float:
    """The Score of the BACH challenge, pooled over all pixels: 1 less the distances of predicted grades from true ones,
    as a share of the largest there could be where either is not normal.

    Args:
        prediction, truth: grades from 0, normal, to ``grades - 1``, invasive, of the same shape.
        grades: how many.

    Raises:
        ValueError: the shapes differ, or a grade is none of these.

    Source: Li et al. 2020, eqs. 10 and 11; Aresta et al. 2019.
    """
    grade = [np.asarray(grades_of).astype(np.int64) for grades_of in (prediction, truth)]
    if any(part.size and (part.min() < 0 or part.max() >= grades) for part in grade):
        raise ValueError(f"a grade that is none of 0 to {grades - 1}")
    return matrix_bach_score(confusion_matrix(grade[0] + 1, grade[1] + 1, grades))


def matrix_bach_score(matrix: np.ndarray) -> float:
    """:func:`bach_score` from a confusion matrix whose classes are grades in label order. What was not predicted counts
    as far off as can be."""
    grades = len(matrix)
    true, predicted = np.arange(grades)[:, None], np.arange(grades)[None]
    worst = np.maximum(true, grades - 1 - true).repeat(grades + 1, axis=1)
    distance = worst.copy()
    distance[:, :grades] = np.abs(predicted - true)
    # Normal tissue that was found normal does not count.
    possible = worst.copy()
    possible[0, 0] = 0
    total = float((matrix * possible).sum())
    return 1.0 - float((matrix * distance).sum()) / total if total else 1.0


def seam_ratio(labels: np.ndarray, target: int) -> float | None:
    """How blocky a stitched label map is: label changes along the seams of its targets over those elsewhere.

    Args:
        labels: ``(height, width)`` label map of a whole slide, targets from its top left corner.
        target: pixels a side of a target.

    Returns:
        share of neighbouring pixels with different labels across seams, divided by the same away from seams; 1 where
        seams do not show, more where they do. None where no label changes away from seams.
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
    """Mean IoU over the classes that have labelled pixels, from one global confusion matrix summed over batches (and
    processes): the figure that picks the checkpoint (Ho et al. 2021, section 2.5).

    ``update`` takes ``(logits, labels)``: ``(B, C, h, w)`` and ``(B, 1, h, w)``, or lists of both without the batch
    dimension.

    Args:
        scheme: the classes.
        classes: those that count, as in :func:`scores`; all by default.
        output_transform, device: as every ignite metric's.
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
        logits, labels = (batched(part) for part in output)
        self._matrix += batch_confusion(self.scheme, logits, labels)

    @sync_all_reduce("_matrix")
    def compute(self) -> float:
        mean = scores(self._matrix.cpu().numpy(), self.scheme.names, self.classes)["mean_iou"]
        return 0.0 if mean is None else mean


class PrimaryOutput:
    """An ``output_transform``: of networks that are trained by several outputs, the final one and its labels.

    Args:
        scheme: whose channels each output has.
    """

    def __init__(self, scheme: ClassScheme) -> None:
        self.scheme = scheme

    def __call__(self, output: Sequence[dict[str, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        channels = self.scheme.num_channels
        return [item["pred"][:channels] for item in output], [item["label"][:1] for item in output]


class MeanLoss(Metric):
    """A loss over all pixels of all batches (and processes), as if they were one batch.

    ``update`` takes ``(logits, labels)`` as :class:`MeanIoU` does.

    Args:
        loss: the loss.
        output_transform, device: as every ignite metric's.
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
        logits, labels = (batched(part) for part in output)
        with torch.no_grad():
            self._sums += torch.stack(self.loss.sums(logits, labels)).double().cpu()

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        total, divisor = self._sums.tolist()
        if not divisor:
            raise ValueError("no labelled pixel to take the loss of")
        return total / divisor

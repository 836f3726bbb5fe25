"""Scores from one global confusion matrix over labelled pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from .classes import ClassScheme


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by true class (row) and predicted class (column).

    Args:
        prediction: label map; 0 (not predicted) counts in the last column.
        truth: label map of the same shape; 0 (unlabelled) is not counted.

    Returns:
        ``(num_classes, num_classes + 1)`` int64; the last column is "not predicted".
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    labelled = truth > 0
    row = truth[labelled].astype(np.int64) - 1
    column = (prediction[labelled].astype(np.int64) - 1) % (num_classes + 1)
    if row.size and (row.max() >= num_classes or prediction[labelled].max() > num_classes):
        raise ValueError(f"a label above {num_classes}, the number of classes")
    counts = np.bincount(row * (num_classes + 1) + column, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def scores(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """IoU, recall, precision and F1 per class and their plain means, and pixel accuracy.

    Args:
        matrix: from :func:`confusion_matrix`.
        names: class names in label order.

    Returns:
        ``mean_iou``, ``mean_recall``, ``mean_precision``, ``mean_f1``, ``pixel_accuracy``, ``labelled_pixels``,
        ``not_predicted`` (share of labelled pixels) and ``classes``: the figures per class. A class without labelled
        pixels has no figures (None) and does not enter the means.

    Source: Ho et al. 2021, eqs. 3–5.
    """
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
    }
    return result


def _batched(part: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """MONAI's engines give lists of items once a batch is taken apart."""
    return part if isinstance(part, torch.Tensor) else torch.stack(list(part))


class LabelledPixelConfusion(Metric):
    """Global confusion matrix of logits against label maps, summed over batches (and processes).

    ``update`` takes ``(logits, labels)``: ``(B, C, h, w)`` and ``(B, 1, h, w)``, or lists of both without the
    batch dimension.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scheme = scheme
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._matrix = torch.zeros(len(self.scheme), len(self.scheme) + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (_batched(part) for part in output)
        prediction = self.scheme.labels_from_logits(logits).cpu().numpy()
        truth = labels[:, 0].cpu().numpy()
        self._matrix += torch.from_numpy(confusion_matrix(prediction, truth, len(self.scheme)))

    @sync_all_reduce("_matrix")
    def compute(self) -> np.ndarray:
        return self._matrix.cpu().numpy()


class MeanIoU(LabelledPixelConfusion):
    """Mean IoU over the classes that have labelled pixels; the figure that picks the checkpoint (Ho et al. 2021,
    section 2.5)."""

    def compute(self) -> float:
        mean = scores(super().compute(), self.scheme.names)["mean_iou"]
        return 0.0 if mean is None else mean


class ContextReliance(Metric):
    """The mean IoU lost when views of the patch come from elsewhere on the slide.

    ``compute`` gives ``{"view 2": lost, "view 3": lost, "views 2+3": lost}``: each view but the finest alone, and
    all of them together. A network that loses nothing does not use its context, whatever its architecture says.

    Args:
        scheme: the classes.
        network: from image to logits; runs once more for every entry of the result.
        num_views: how many views a patch has; of a single one there is nothing to replace.
        key: of the engine's batch: the patches around other centres of the same slides, ``(B, 3·S, H, W)``.
        output_transform: of the engine's output, to logits ``(B, C, h, w)``, labels ``(B, 1, h, w)`` and image.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        network: Callable[[torch.Tensor], torch.Tensor],
        num_views: int,
        key: str = "elsewhere",
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scheme, self.network, self.key = scheme, network, key
        coarse = list(range(1, num_views))
        self.replaced = [(view,) for view in coarse] + ([tuple(coarse)] if len(coarse) > 1 else [])
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Called by the engine after every batch."""
        batch: Any = engine.state.batch
        elsewhere = batch[self.key] if isinstance(batch, dict) else [item[self.key] for item in batch]
        self.update((*self._output_transform(engine.state.output), elsewhere))

    @reinit__is_reduced
    def reset(self) -> None:
        classes = len(self.scheme)
        self._matrices = torch.zeros(len(self.replaced) + 1, classes, classes + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, image, elsewhere = (_batched(part) for part in output)
        elsewhere = elsewhere.to(image.device)
        truth = labels[:, 0].cpu().numpy()
        self._add(0, logits, truth)
        for index, views in enumerate(self.replaced):
            mixed = image.clone()
            for view in views:
                mixed[:, 3 * view : 3 * view + 3] = elsewhere[:, 3 * view : 3 * view + 3]
            with torch.no_grad():
                self._add(index + 1, self.network(mixed), truth)

    @sync_all_reduce("_matrices")
    def compute(self) -> dict[str, float]:
        means = [scores(matrix.cpu().numpy(), self.scheme.names)["mean_iou"] or 0.0 for matrix in self._matrices]
        names = [
            ("view " if len(views) == 1 else "views ") + "+".join(str(view + 1) for view in views)
            for views in self.replaced
        ]
        return {name: means[0] - mean for name, mean in zip(names, means[1:], strict=True)}

    def _add(self, index: int, logits: torch.Tensor, truth: np.ndarray) -> None:
        prediction = self.scheme.labels_from_logits(logits).cpu().numpy()
        self._matrices[index] += torch.from_numpy(confusion_matrix(prediction, truth, len(self.scheme)))

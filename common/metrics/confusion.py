"""Confusion matrices of label maps, of batches and of slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from ..renamed_keys import takes_old_names
from .batch import batch_field, stack_items

BACKGROUND = ("keep", "as_class", "exclude")


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the pixels by true class (row) and predicted class (column).

    Args:
        prediction: label map; 0 (not predicted) counts in the last column.
        truth: label map of the same shape; 0 (unlabelled) is not counted.
        num_classes: number of classes, whose labels are 1, 2, ….

    Returns:
        ``(num_classes, num_classes + 1)`` int64; the last column is "not predicted".

    Raises:
        ValueError: shapes that differ, or a label above ``num_classes``.
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


def batch_confusion(scheme: ClassScheme, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return :func:`confusion_matrix` of a batch, on the CPU. Pixels are counted on the logits' device.

    Args:
        scheme: the classes.
        logits: ``(B, C, h, w)``.
        labels: ``(B, 1, h, w)``.
    """
    prediction, classes = scheme.labels_from_logits(logits).long(), len(scheme)
    truth = labels[:, 0].to(logits.device).long()
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} differ in shape")
    # Row and column 0 hold unlabelled pixels, the last ones all labels that the scheme does not have.
    side = classes + 2
    pairs = truth.clamp(max=classes + 1).flatten() * side + prediction.clamp(max=classes + 1).flatten()
    counts = torch.bincount(pairs, minlength=side * side).reshape(side, side).cpu()
    if counts[-1].any() or counts[1:, -1].any():
        raise ValueError(f"a label above {classes}, the number of classes")
    # Pixels without a prediction come last.
    return torch.cat([counts[1:-1, 1:-1], counts[1:-1, :1]], dim=1)


def check_background(background: str, scheme: ClassScheme) -> None:
    """Raise ValueError for an unknown ``background``, or one that the scheme does not allow."""
    if background not in BACKGROUND:
        raise ValueError(f"background must be one of {', '.join(BACKGROUND)}, not {background!r}")
    if background == "as_class" and scheme.skipped is None:
        raise ValueError('the class scheme names no skipped class, which background="as_class" needs')


@takes_old_names
class SlideConfusion(Metric):
    """Confusion matrix of each slide.

    The engine's batch holds ``slide`` (its position in the data) and, with ``background``, ``tissue`` (whether Otsu's
    threshold finds tissue in the target) of every patch.

    Args:
        scheme: the classes.
        num_slides: number of slides in the data.
        background: treatment of targets without tissue. ``"keep"`` scores them like the others; ``"as_class"`` scores
            them as the scheme's ``skipped`` class, which they get if they are not predicted; ``"exclude"`` leaves them
            out.
        output_transform: maps the engine's output to logits ``(B, C, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: an unknown ``background``, or a scheme without a skipped class for it.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        num_slides: int,
        background: str = "keep",
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        check_background(background, scheme)
        self.scheme, self.num_slides, self.background = scheme, num_slides, background
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Update from the engine's batch; the engine calls this after each one."""
        tissue = batch_field(engine, "tissue") if self.background != "keep" else None
        self.update((*self._output_transform(engine.state.output), batch_field(engine, "slide"), tissue))

    @reinit__is_reduced
    def reset(self) -> None:
        classes = len(self.scheme)
        self._matrices = torch.zeros(self.num_slides, classes, classes + 1, dtype=torch.int64)
        self._excluded = torch.zeros(self.num_slides, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (stack_items(part) for part in output[:2])
        slides, tissue = output[2:]
        for item, slide in enumerate(int(number) for number in slides):
            one = slice(item, item + 1)
            if tissue is None or bool(tissue[item]):
                self._matrices[slide] += batch_confusion(self.scheme, logits[one], labels[one])
            elif self.background == "exclude":
                self._excluded[slide] += int((labels[item] > 0).sum())
            else:
                assert self.scheme.skipped is not None
                truth = labels[item].cpu().numpy()
                as_skipped = np.full(truth.shape, self.scheme.skipped.label)
                self._matrices[slide] += torch.from_numpy(confusion_matrix(as_skipped, truth, len(self.scheme)))

    @sync_all_reduce("_matrices", "_excluded")
    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(slides, classes, classes + 1)`` pixel counts, and ``(slides,)`` excluded labelled pixels."""
        return self._matrices.cpu().numpy(), self._excluded.cpu().numpy()

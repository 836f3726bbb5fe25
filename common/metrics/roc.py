"""Receiver operating characteristic, in bounded memory for any number of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from ..renamed_keys import takes_old_names
from .batch import batch_field
from .confusion import check_background

BINS = 2**16


def score_bins(logits: np.ndarray) -> np.ndarray:
    """Return the bin of every logit, 0 to 65535, in the logits' order.

    The bins are the float16 numbers. Unlike bins of the probability, they are as fine for nearly certain pixels as for
    doubtful ones. Logits beyond the range of float16 fall into its outermost bins.
    """
    largest = np.finfo(np.float16).max
    # Adding 0 turns a negative zero into the positive one.
    bits = (np.clip(logits, -largest, largest).astype(np.float16) + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000)


def count_scores(logits: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the pixels by truth and score: ``(2, 65536)`` int64, negatives first.

    Args:
        logits: logit of each pixel; infinite ones are allowed.
        positive: whether each pixel is of the positive class, bool of the same shape.

    Raises:
        ValueError: a logit is not a number.
    """
    if np.isnan(logits).any():
        raise ValueError("a score is not a number (NaN): it has no place in the order of scores")
    bins = score_bins(logits)
    return np.stack([np.bincount(bins[positive == truth], minlength=BINS) for truth in (False, True)])


def roc_curve(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates, from the highest threshold (0, 0) to the lowest (1, 1), with one point per
    bin that has pixels.

    Args:
        counts: from :func:`count_scores`; both classes have pixels.
    """
    used = counts[:, counts.any(axis=0)][:, ::-1]
    rates = np.cumsum(used, axis=1) / counts.sum(axis=1, keepdims=True)
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def auc(counts: np.ndarray) -> float | None:
    """Return the area under the curve of :func:`roc_curve`; None if one class has no pixels."""
    if not counts.any(axis=1).all():
        return None
    fpr, tpr = roc_curve(counts)
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2)


@takes_old_names
class SlideROC(Metric):
    """Counts of each slide's labelled pixels by truth and score, for curves of single slides and of all together.

    The engine's batch holds ``slide`` (its position in the data) and, with ``background``, ``tissue`` (whether Otsu's
    threshold finds tissue in the target) of every patch.

    Args:
        scheme: the classes; its activation is a sigmoid.
        num_slides: number of slides in the data.
        background: see :class:`SlideConfusion`; ``"as_class"`` assigns targets without tissue the lowest score, or the
            highest if the skipped class is the positive one.
        output_transform: maps the engine's output to logits ``(B, 1, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: a scheme without a sigmoid, or a ``background`` that is unknown or that the scheme does not allow.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        num_slides: int,
        background: str = "keep",
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        if scheme.activation != "sigmoid":
            raise ValueError("a ROC curve needs two classes and one score: the scheme's activation must be a sigmoid")
        check_background(background, scheme)
        self.positive = scheme.positive.label
        self.num_slides, self.background = num_slides, background
        skipped_is_positive = scheme.skipped is not None and scheme.skipped.label == self.positive
        self._skipped_score = math.inf if skipped_is_positive else -math.inf
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Update from the engine's batch; the engine calls this after each one."""
        tissue = batch_field(engine, "tissue") if self.background != "keep" else None
        self.update((*self._output_transform(engine.state.output), batch_field(engine, "slide"), tissue))

    @reinit__is_reduced
    def reset(self) -> None:
        self._counts = torch.zeros(self.num_slides, 2, BINS, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, slides, tissue = output
        for item, slide in enumerate(int(number) for number in slides):
            truth, score = labels[item].cpu().numpy(), logits[item].float().cpu().numpy()
            if tissue is not None and not bool(tissue[item]):
                if self.background == "exclude":
                    continue
                score = np.full_like(score, self._skipped_score)
            labelled = truth > 0
            counted = count_scores(score[labelled], truth[labelled] == self.positive)
            self._counts[slide] += torch.from_numpy(counted)

    @sync_all_reduce("_counts")
    def compute(self) -> np.ndarray:
        """Return ``(slides, 2, 65536)`` pixel counts."""
        return self._counts.cpu().numpy()

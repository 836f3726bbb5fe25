"""Receiver operating characteristic over any number of pixels, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from .batch import of_batch
from .confusion import check_otsu

BINS = 2**16


def score_bins(logits: np.ndarray) -> np.ndarray:
    """The bin of every logit, 0 to 65535, in the logits' order.

    The bins are the float16 numbers: as fine for a pixel that is nearly surely tumour, or surely not, as for a doubtful
    one, which bins of the probability are not. Larger logits than float16 has are put with its largest.
    """
    largest = np.finfo(np.float16).max
    # Adding 0 makes a negative zero the positive one.
    bits = (np.clip(logits, -largest, largest).astype(np.float16) + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000)


def count_scores(logits: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Pixels by truth and score: ``(2, 65536)`` int64, negatives first.

    Args:
        logits: of each pixel, finite.
        positive: bool, of the same shape.

    Raises:
        ValueError: a logit is not a number.
    """
    if np.isnan(logits).any():
        raise ValueError("a score is not a number (NaN): it has no place in the order of scores")
    bins = score_bins(logits)
    return np.stack([np.bincount(bins[positive == truth], minlength=BINS) for truth in (False, True)])


def roc_curve(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, from the highest threshold (0, 0) to the lowest (1, 1), one point per bin that has
    pixels.

    Args:
        counts: from :func:`count_scores`; both classes have pixels.
    """
    used = counts[:, counts.any(axis=0)][:, ::-1]
    rates = np.cumsum(used, axis=1) / counts.sum(axis=1, keepdims=True)
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def auc(counts: np.ndarray) -> float | None:
    """Area under the curve; None where one class has no pixels."""
    if not counts.any(axis=1).all():
        return None
    false, true = roc_curve(counts)
    return float((np.diff(false) * (true[1:] + true[:-1])).sum() / 2)


class SlideROC(Metric):
    """Scores of each slide's labelled pixels by truth, for curves of single slides and of all together.

    The engine's batch holds ``slide``, its position in the data, of every patch.

    Args:
        scheme: of one output channel.
        num_slides: how many slides the data has.
        otsu: as of :class:`SlideConfusion`; ``"skipped"`` gives targets without tissue the lowest score, or the highest
            if the skipped class is the positive one.
        output_transform: of the engine's output, to logits ``(B, 1, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: the scheme is not one of a sigmoid; or ``otsu`` as of :class:`SlideConfusion`.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        num_slides: int,
        otsu: str | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        if scheme.activation != "sigmoid":
            raise ValueError("a ROC curve is of two classes told apart by one score: the scheme must be a sigmoid's")
        check_otsu(otsu, scheme)
        self.positive = scheme.positive.label
        self.num_slides, self.otsu = num_slides, otsu
        skipped_is_positive = scheme.skipped is not None and scheme.skipped.label == self.positive
        self._skipped_score = math.inf if skipped_is_positive else -math.inf
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Called by the engine after every batch."""
        tissue = of_batch(engine, "tissue") if self.otsu is not None else None
        self.update((*self._output_transform(engine.state.output), of_batch(engine, "slide"), tissue))

    @reinit__is_reduced
    def reset(self) -> None:
        self._counts = torch.zeros(self.num_slides, 2, BINS, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, slides, tissue = output
        for item, slide in enumerate(int(number) for number in slides):
            truth, score = labels[item].cpu().numpy(), logits[item].float().cpu().numpy()
            if tissue is not None and not bool(tissue[item]):
                if self.otsu == "exclude":
                    continue
                score = np.full_like(score, self._skipped_score)
            labelled = truth > 0
            counted = count_scores(score[labelled], truth[labelled] == self.positive)
            self._counts[slide] += torch.from_numpy(counted)

    @sync_all_reduce("_counts")
    def compute(self) -> np.ndarray:
        """``(slides, 2, 65536)`` pixels."""
        return self._counts.cpu().numpy()

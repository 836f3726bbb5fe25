"""Curves of every class against the rest over all thresholds, in bounded memory for any number of pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from ..renamed_keys import takes_old_names
from .batch import batch_field
from .confusion import check_background
from .roc import BINS, count_scores, score_bins

THRESHOLDS = np.round(np.arange(1, 100) / 100, 2)


def class_log_odds(logits: torch.Tensor, scheme: ClassScheme) -> torch.Tensor:
    """Return log(p / (1 - p)) of each class, which separates values that round to the same probability.

    Args:
        logits: ``(B, C, h, w)``.
        scheme: the classes.

    Returns:
        ``(B, number of classes, h, w)``, in label order.
    """
    if scheme.activation == "sigmoid":
        positive = logits[:, :1].float()
        return torch.cat([positive if c.channel is not None else -positive for c in scheme.classes], dim=1)
    class_logits = logits[:, [c.channel for c in scheme.classes]].float()
    repeated = class_logits.unsqueeze(1).repeat(1, len(scheme), 1, 1, 1)
    own = torch.eye(len(scheme), dtype=torch.bool, device=logits.device)[None, :, :, None, None]
    return class_logits - repeated.masked_fill(own, -torch.inf).logsumexp(dim=2)


@takes_old_names
class ClassCurves(Metric):
    """Counts of labelled pixels for each class: by whether they belong to it, and by its log-odds.

    Args:
        scheme: the classes.
        background: see :class:`SlideConfusion`; ``"as_class"`` assigns targets without tissue to the skipped class.
        output_transform: maps the engine's output to logits ``(B, C, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: unknown ``background``, or one that the scheme does not allow.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        background: str = "keep",
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        check_background(background, scheme)
        self.scheme, self.background = scheme, background
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Update from the engine's batch; the engine calls this after each one."""
        tissue = batch_field(engine, "tissue") if self.background != "keep" else None
        self.update((*self._output_transform(engine.state.output), tissue))

    @reinit__is_reduced
    def reset(self) -> None:
        self._counts = torch.zeros(len(self.scheme), 2, BINS, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, tissue = output
        for item in range(len(labels)):
            truth = labels[item].cpu().numpy()[0]
            scores = class_log_odds(logits[item][None], self.scheme)[0].cpu().numpy()
            if tissue is not None and not bool(tissue[item]):
                if self.background == "exclude":
                    continue
                scores = self._skipped(scores)
            labelled = truth > 0
            for tissue_class in self.scheme.classes:
                position = tissue_class.label - 1
                counted = count_scores(scores[position][labelled], truth[labelled] == tissue_class.label)
                self._counts[position] += torch.from_numpy(counted)

    def _skipped(self, scores: np.ndarray) -> np.ndarray:
        assert self.scheme.skipped is not None
        certain = np.full_like(scores, -np.inf)
        certain[self.scheme.skipped.label - 1] = np.inf
        return certain

    @sync_all_reduce("_counts")
    def compute(self) -> np.ndarray:
        """Return ``(classes, 2, 65536)`` pixel counts: pixels of other classes first, then those of the class."""
        return self._counts.cpu().numpy()


def threshold_table(counts: np.ndarray) -> pd.DataFrame:
    """Return IoU, precision, recall, sensitivity (which is recall) and specificity of a class at thresholds of its
    probability of 0.01, 0.02, …, 0.99.

    Args:
        counts: ``(2, 65536)`` counts of the class from :class:`ClassCurves`; both rows have pixels.
    """
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
    odds = np.log(THRESHOLDS / (1 - THRESHOLDS))
    fp, tp = above[:, score_bins(odds)]
    negatives, positives = counts.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), np.nan)
    recall = tp / positives
    return pd.DataFrame(
        {
            "threshold": THRESHOLDS,
            "iou": tp / (positives + fp),
            "precision": precision,
            "recall": recall,
            "sensitivity": recall,
            "specificity": 1 - fp / negatives,
        }
    )


def break_even_point(table: pd.DataFrame, one: str, other: str) -> dict[str, float]:
    """Return the first threshold at which two columns meet or cross, and their mean there.

    Args:
        table: from :func:`threshold_table`.
        one, other: names of the columns.

    Returns:
        ``value`` and ``threshold``; empty if they do not meet.
    """
    difference = (table[one] - table[other]).to_numpy()
    known = np.nonzero(np.isfinite(difference))[0]
    sign = np.sign(difference[known])
    crossed = np.nonzero(sign[1:] * sign[0] <= 0)[0] if len(known) and sign[0] != 0 else np.array([-1])
    if not len(known) or not len(crossed):
        return {}
    row = table.iloc[known[crossed[0] + 1]]
    return {"value": float((row[one] + row[other]) / 2), "threshold": float(row["threshold"])}

"""Every class against the rest at every threshold, over any number of pixels in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from ..classes import ClassScheme
from .batch import of_batch
from .confusion import check_otsu
from .roc import BINS, count_scores, score_bins

THRESHOLDS = np.round(np.arange(1, 100) / 100, 2)
FIGURES = ("iou", "precision", "recall", "sensitivity", "specificity")


def class_log_odds(logits: torch.Tensor, scheme: ClassScheme) -> torch.Tensor:
    """``(B, C, h, w)`` logits -> ``(B, number of classes, h, w)``: log of p / (1 - p) of each class in label order,
    which keeps apart what rounds to the same probability."""
    if scheme.activation == "sigmoid":
        positive = logits[:, :1].float()
        return torch.cat([positive if c.channel is not None else -positive for c in scheme.classes], dim=1)
    of_classes = logits[:, [c.channel for c in scheme.classes]].float()
    every = of_classes.unsqueeze(1).repeat(1, len(scheme), 1, 1, 1)
    own = torch.eye(len(scheme), dtype=torch.bool, device=logits.device)[None, :, :, None, None]
    return of_classes - every.masked_fill(own, -torch.inf).logsumexp(dim=2)


class ClassCurves(Metric):
    """Labelled pixels by class, by whether they are of it, and by its log-odds.

    Args:
        scheme: the classes.
        otsu: as of :class:`SlideConfusion`; ``"skipped"`` gives targets without tissue wholly to the skipped class.
        output_transform: of the engine's output, to logits ``(B, C, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: ``otsu`` as of :class:`SlideConfusion`.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        otsu: str | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        check_otsu(otsu, scheme)
        self.scheme, self.otsu = scheme, otsu
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Called by the engine after every batch."""
        tissue = of_batch(engine, "tissue") if self.otsu is not None else None
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
                if self.otsu == "exclude":
                    continue
                scores = self._skipped(scores)
            labelled = truth > 0
            for tissue_class in self.scheme.classes:
                position = tissue_class.label - 1
                counted = count_scores(scores[position][labelled], truth[labelled] == tissue_class.label)
                self._counts[position] += torch.from_numpy(counted)

    def _skipped(self, scores: np.ndarray) -> np.ndarray:
        assert self.scheme.skipped is not None
        given = np.full_like(scores, -np.inf)
        given[self.scheme.skipped.label - 1] = np.inf
        return given

    @sync_all_reduce("_counts")
    def compute(self) -> np.ndarray:
        """``(classes, 2, 65536)`` pixels: of other classes, and of this one."""
        return self._counts.cpu().numpy()


def threshold_table(counts: np.ndarray) -> pd.DataFrame:
    """IoU, precision, recall, sensitivity (which is recall) and specificity of a class where its probability is at
    least 0.01, 0.02, …, 0.99.

    Args:
        counts: of the class, ``(2, 65536)``; both rows have pixels.
    """
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
    odds = np.log(THRESHOLDS / (1 - THRESHOLDS))
    false, true = above[:, score_bins(odds)]
    negatives, positives = counts.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        precision = np.where(true + false > 0, true / (true + false), np.nan)
    recall = true / positives
    return pd.DataFrame(
        {
            "threshold": THRESHOLDS,
            "iou": true / (positives + false),
            "precision": precision,
            "recall": recall,
            "sensitivity": recall,
            "specificity": 1 - false / negatives,
        }
    )


def meeting(table: pd.DataFrame, one: str, other: str) -> dict[str, float]:
    """The first threshold at which one figure is no longer on the same side of the other, and their mean there;
    nothing if they do not meet."""
    difference = (table[one] - table[other]).to_numpy()
    known = np.nonzero(np.isfinite(difference))[0]
    sign = np.sign(difference[known])
    crossed = np.nonzero(sign[1:] * sign[0] <= 0)[0] if len(known) and sign[0] != 0 else np.array([-1])
    if not len(known) or not len(crossed):
        return {}
    row = table.iloc[known[crossed[0] + 1]]
    return {"value": float((row[one] + row[other]) / 2), "threshold": float(row["threshold"])}

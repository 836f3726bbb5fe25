"""Ignite handlers of the bundles."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.engines.utils import IterationEvents
from torch import nn

from .classes import ClassScheme
from .files import write_json, written_whole
from .metrics import scores

logger = logging.getLogger(__name__)


class TrainingProgress:
    """A progress bar per epoch that shows the loss.

    Args:
        desc: what it says in front.
    """

    def __init__(self, desc: str = "training") -> None:
        self.desc = desc

    def attach(self, engine: Engine) -> None:
        """Called by the trainer or evaluator."""
        bar = ProgressBar(desc=self.desc, persist=False)
        bar.attach(engine, output_transform=self._loss)

    @staticmethod
    def _loss(output: Any) -> dict[str, float]:
        first = output[0] if isinstance(output, list | tuple) else output
        loss = first.get("loss") if isinstance(first, dict) else None
        return {} if loss is None else {"loss": float(loss)}


class GradientClipping:
    """Scales the gradients of each iteration down to a largest norm.

    Args:
        network: whose gradients.
        max_norm: their largest norm over all weights; None leaves them.
    """

    def __init__(self, network: nn.Module, max_norm: float | None) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Called by the trainer."""
        if self.max_norm is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.max_norm is not None
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class WeightsLoader:
    """Loads a checkpoint's weights before the first iteration.

    Args:
        path: a state dict, or a dictionary with one under ``"model"``; read without running code from it. None: nothing
            is loaded.
        network: it must be the checkpoint's.

    Raises:
        ValueError: there is no such file, or its weights are another network's; names both.
    """

    def __init__(self, path: str | Path | None, network: nn.Module) -> None:
        self.path, self.network = path, network

    def attach(self, engine: Engine) -> None:
        """Called by the trainer or evaluator."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.path is not None
        load_weights(self.network, self.path)
        logger.info("weights: %s", self.path)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load ``path`` into ``network`` (or into what a parallel wrapper holds); see :class:`WeightsLoader`."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such checkpoint. Train one with train.yaml, or set checkpoint to an existing one")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content["model"] if isinstance(content, dict) and "model" in content else content
    bare = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    wanted = bare.state_dict()
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [f"{key} is none of its weights" for key in state if key not in wanted]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if problems:
        raise ValueError(
            f"{path} holds the weights of another network than {type(bare).__name__}: {problems[0]} "
            f"({len(problems)} differences). Set network_def to the network (and widths) it was trained with"
        )
    bare.load_state_dict(state)


class SaveScores:
    """Writes what an evaluation found: ``scores.json``, ``scores.csv`` and ``confusion.png``.

    Args:
        output_dir: where to.
        scheme: the classes.
        confusion: name of the metric that holds the confusion matrix.
        reliance: name of the :class:`ContextReliance` metric, if there is one.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scheme: ClassScheme,
        confusion: str = "confusion",
        reliance: str = "context_reliance",
    ) -> None:
        self.output_dir, self.scheme = Path(output_dir), scheme
        self.confusion, self.reliance = confusion, reliance

    def attach(self, engine: Engine) -> None:
        """Called by the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        figures = write_scores(self.output_dir, metrics[self.confusion], self.scheme, metrics.get(self.reliance))
        logger.info("mean IoU %.4f; scores and confusion matrix: %s", figures["mean_iou"] or 0.0, self.output_dir)


def write_scores(
    output_dir: str | Path, matrix: np.ndarray, scheme: ClassScheme, context_reliance: dict[str, float] | None = None
) -> dict[str, Any]:
    """Write a confusion matrix and its figures as JSON, CSV and picture; gives the figures."""
    output_dir = Path(output_dir)
    figures = scores(matrix, scheme.names)
    if context_reliance is not None:
        figures["context_reliance"] = context_reliance
    figures["confusion_matrix"] = {
        "rows": "truth",
        "columns": [*scheme.names, "not predicted"],
        "pixels": np.asarray(matrix).tolist(),
    }
    write_json(output_dir / "scores.json", figures)
    with written_whole(output_dir / "scores.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "iou", "recall", "precision", "f1", "labelled_pixels"])
        for name, row in figures["classes"].items():
            writer.writerow([name, row["iou"], row["recall"], row["precision"], row["f1"], row["labelled_pixels"]])
        means = [figures[f"mean_{figure}"] for figure in ("iou", "recall", "precision", "f1")]
        writer.writerow(["mean", *means, figures["labelled_pixels"]])
    plot_confusion(matrix, scheme, output_dir / "confusion.png")
    return figures


def plot_confusion(matrix: np.ndarray, scheme: ClassScheme, path: str | Path) -> None:
    """Draw the confusion matrix, each row as shares of the true class (the form of the paper's Figures 12 and 13)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    total = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    columns = list(scheme.names)
    if matrix[:, -1].any():
        columns.append("not predicted")
    figure = Figure(figsize=(1.6 + 0.95 * len(columns), 1.4 + 0.75 * len(scheme)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(shares[:, : len(columns)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(scheme)):
        for column in range(len(columns)):
            text = "–" if total[row, 0] == 0 else f"{shares[row, column]:.3f}"
            axes.text(
                column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black"
            )
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(scheme)), scheme.names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("share of the true class's labelled pixels", fontsize=10)
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=120, format="png")

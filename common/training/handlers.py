"""Ignite handlers of the bundles."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from ignite.metrics import RunningAverage
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialKeys
from torch import nn

from ..classes import ClassScheme
from ..literal import as_path
from ..networks.checkpoints import load_weights
from ..reports.class_curves import ClassCurvesReport
from ..reports.roc import ROCReport
from ..reports.scores import ScoreReport
from ..slides import FieldOfView

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


class AdversarialProgress:
    """A progress bar per epoch that shows what generator and discriminator lose, and logs their means."""

    def attach(self, engine: Engine) -> None:
        """Called by MONAI's AdversarialTrainer."""
        for name in (
            AdversarialKeys.GENERATOR_LOSS,
            AdversarialKeys.DISCRIMINATOR_LOSS,
            AdversarialKeys.RECONSTRUCTION_LOSS,
        ):
            RunningAverage(output_transform=lambda output, name=name: float(output[name])).attach(engine, str(name))
        ProgressBar(desc="training a style", persist=False).attach(engine, metric_names="all")
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        found = ", ".join(f"{name} {value:.4f}" for name, value in engine.state.metrics.items())
        logger.info("epoch %d: %s", engine.state.epoch, found)


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
        fields_of_view, target, scheme: what the network predicts with: weights that were trained on other µm/px or
            classes are refused; see :func:`load_weights`. None: a training that begins with these weights may differ.

    Raises:
        ValueError: there is no such file, its weights are another network's, or they were trained on something else;
            says what differs.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]] | None = None,
        target: FieldOfView | Mapping[str, Any] | None = None,
        scheme: ClassScheme | None = None,
    ) -> None:
        self.path, self.network = path, network
        self.fields_of_view, self.target, self.scheme = fields_of_view, target, scheme

    def attach(self, engine: Engine) -> None:
        """Called by the trainer or evaluator."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.path is not None
        load_weights(self.network, self.path, self.fields_of_view, self.target, self.scheme)
        logger.info("weights: %s", self.path)


class SaveScores:
    """Writes what an evaluation found: ``scores.json``, ``scores.csv``, ``slides.csv``, ``groups.csv`` and
    ``confusion.png``.

    Args:
        output_dir: where to.
        scheme: the classes.
        data: the datalist entries that were scored.
        classes: those that count; all by default.
        group_by: columns of the datalist for each of whose values there are figures.
        confusion: name of the :class:`SlideConfusion` metric.
        reliance: name of the :class:`ContextReliance` metric, if there is one.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scheme: ClassScheme,
        data: Sequence[Mapping[str, Any]],
        classes: Sequence[str] | None = None,
        group_by: Sequence[str] = (),
        confusion: str = "confusion",
        reliance: str = "context_reliance",
    ) -> None:
        self.output_dir, self.scheme, self.data = Path(as_path(output_dir)), scheme, list(data)
        self.classes, self.group_by = classes, tuple(group_by)
        self.confusion, self.reliance = confusion, reliance

    def attach(self, engine: Engine) -> None:
        """Called by the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        matrices, excluded = metrics[self.confusion]
        report = ScoreReport(self.scheme, matrices, self.data, self.classes, self.group_by, excluded)
        lost = metrics.get(self.reliance)
        figures = report.write(self.output_dir, lost)
        for views, value in (lost or {}).items():
            logger.info("mean IoU lost when %s come(s) from elsewhere: %.4f", views, value)
        found = ", ".join(f"{name} {_rounded(one['iou'])}" for name, one in figures["classes"].items())
        logger.info("IoU: %s", found)
        logger.info("mean IoU %.4f; scores and confusion matrix: %s", figures["mean_iou"] or 0.0, self.output_dir)


def _rounded(value: float | None) -> str:
    return "not annotated" if value is None else f"{value:.3f}"


class SaveROC:
    """Writes the ROC of an evaluation, pooled and of each slide: ``roc.json``, ``roc.csv`` and ``roc.png``.

    Args:
        output_dir: where to.
        scheme: the classes, of a sigmoid.
        data: the datalist entries that were scored.
        roc: name of the :class:`SlideROC` metric.
        confusion: name of the :class:`SlideConfusion` metric.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scheme: ClassScheme,
        data: Sequence[Mapping[str, Any]],
        roc: str = "roc",
        confusion: str = "confusion",
    ) -> None:
        self.output_dir, self.scheme, self.data = Path(as_path(output_dir)), scheme, list(data)
        self.roc, self.confusion = roc, confusion

    def attach(self, engine: Engine) -> None:
        """Called by the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        matrices, _ = engine.state.metrics[self.confusion]
        report = ROCReport(self.scheme, engine.state.metrics[self.roc], matrices, self.data)
        pooled = report.write(self.output_dir)["pooled"]
        logger.info("area under the ROC curve %.4f; curve: %s", pooled["auc"] or float("nan"), self.output_dir)


class SaveClassCurves:
    """Writes what every class is told from the rest by, at every threshold: ``curves.json``, ``curves.csv`` and
    ``curves.png``.

    Args:
        output_dir: where to.
        scheme: the classes.
        curves: name of the :class:`ClassCurves` metric.
    """

    def __init__(self, output_dir: str | Path, scheme: ClassScheme, curves: str = "curves") -> None:
        self.output_dir, self.scheme, self.curves = Path(as_path(output_dir)), scheme, curves

    def attach(self, engine: Engine) -> None:
        """Called by the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        figures = ClassCurvesReport(self.scheme, engine.state.metrics[self.curves]).write(self.output_dir)
        areas = ", ".join(f"{name} {found['auc']:.4f}" for name, found in figures.items())
        logger.info("area under the ROC curve: %s; figures over thresholds: %s", areas, self.output_dir / "curves.png")

"""Ignite handlers that the bundles' configs name."""

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
        desc: text in front of the bar.
    """

    def __init__(self, desc: str = "training") -> None:
        self.desc = desc

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        bar = ProgressBar(desc=self.desc, persist=False)
        bar.attach(engine, output_transform=self._loss)

    @staticmethod
    def _loss(output: Any) -> dict[str, float]:
        first = output[0] if isinstance(output, list | tuple) else output
        loss = first.get("loss") if isinstance(first, dict) else None
        return {} if loss is None else {"loss": float(loss)}


class AdversarialProgress:
    """A progress bar per epoch that shows the losses of generator and discriminator; their means are logged."""

    def attach(self, engine: Engine) -> None:
        """Attach to MONAI's AdversarialTrainer."""
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
    """Handler that clips the gradients of each iteration to a largest norm.

    Args:
        network: the network.
        max_norm: largest norm of the gradients over all weights; None does not clip.
    """

    def __init__(self, network: nn.Module, max_norm: float | None) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if self.max_norm is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.max_norm is not None
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class WeightsLoader:
    """Handler that loads a checkpoint's weights before the first iteration.

    Args:
        path: file of a state dict, or of a dictionary with one under ``"model"``; read without running code from it.
            None loads nothing.
        network: the checkpoint's network.
        fields_of_view, target, scheme: views, output and classes of the network. Weights that were trained with others
            are refused; see :func:`load_weights`. None allows them, as for a training that begins with these weights.

    Raises:
        ValueError: there is no such file, its weights are another network's, or they were trained with other views,
            output or classes; the message names the difference.
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
        """Attach to a trainer or evaluator."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.path is not None
        load_weights(self.network, self.path, self.fields_of_view, self.target, self.scheme)
        logger.info("weights: %s", self.path)


class SaveScores:
    """Handler that writes an evaluation's results: ``scores.json``, ``scores.csv``, ``slides.csv``, ``groups.csv`` and
    ``confusion.png``.

    Args:
        output_dir: folder to write to.
        scheme: the classes.
        data: datalist entries that were scored.
        classes: classes that count; all by default.
        group_by: columns of the datalist whose values are scored separately as well.
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
        """Attach to the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        matrices, excluded = metrics[self.confusion]
        report = ScoreReport(self.scheme, matrices, self.data, self.classes, self.group_by, excluded)
        lost = metrics.get(self.reliance)
        results = report.write(self.output_dir, lost)
        for views, value in (lost or {}).items():
            logger.info("mean IoU lost when %s come(s) from elsewhere: %.4f", views, value)
        found = ", ".join(f"{name} {_rounded(one['iou'])}" for name, one in results["classes"].items())
        logger.info("IoU: %s", found)
        logger.info("mean IoU %.4f; scores and confusion matrix: %s", results["mean_iou"] or 0.0, self.output_dir)


def _rounded(value: float | None) -> str:
    return "not annotated" if value is None else f"{value:.3f}"


class SaveROC:
    """Handler that writes the ROC of an evaluation, pooled and of each slide: ``roc.json``, ``roc.csv``, ``roc.png``.

    Args:
        output_dir: folder to write to.
        scheme: the classes, of a sigmoid.
        data: datalist entries that were scored.
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
        """Attach to the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        matrices, _ = engine.state.metrics[self.confusion]
        report = ROCReport(self.scheme, engine.state.metrics[self.roc], matrices, self.data)
        pooled = report.write(self.output_dir)["pooled"]
        logger.info("area under the ROC curve %.4f; curve: %s", pooled["auc"] or float("nan"), self.output_dir)


class SaveClassCurves:
    """Handler that writes curves over thresholds of every class against the rest: ``curves.json``, ``curves.csv`` and
    ``curves.png``.

    Args:
        output_dir: folder to write to.
        scheme: the classes.
        curves: name of the :class:`ClassCurves` metric.
    """

    def __init__(self, output_dir: str | Path, scheme: ClassScheme, curves: str = "curves") -> None:
        self.output_dir, self.scheme, self.curves = Path(as_path(output_dir)), scheme, curves

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        results = ClassCurvesReport(self.scheme, engine.state.metrics[self.curves]).write(self.output_dir)
        areas = ", ".join(f"{name} {found['auc']:.4f}" for name, found in results.items())
        logger.info("area under the ROC curve: %s; results over thresholds: %s", areas, self.output_dir / "curves.png")

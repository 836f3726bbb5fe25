"""Train a bundle's network for so many minutes, with a checkpoint and a curve every minute."""

from __future__ import annotations

import io
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.bundle import ConfigParser
from real_tissue import make_datalist

from common.files import atomic_write
from tests.bundles.narrow import write_phantoms_for_all
from tests.gpu.cases import DEVICE
from tests.gpu.real_regions import SETTINGS
from tests.gpu.trainings import trainer_of, training_parser

# Handlers of a bundle's training that are kept. Reports come by the minute, not by the epoch.
_KEPT = ("WeightsLoader", "LrScheduleHandler", "GradientClipping")
# Minutes between two points of the curve.
_EVERY = 1.0


class MinuteReport:
    """Validates every minute, keeps the weights, draws the curve, and ends the training when its time is up.

    Args:
        parser: the training's configuration.
        output: folder.
        minutes: how long to train.
        piece_mib: write the weights in bfloat16 as files of at most so many MiB instead of ``last.pt``.
    """

    def __init__(self, parser: ConfigParser, output: Path, minutes: float, piece_mib: float | None = None) -> None:
        self.validator = parser.get_parsed_content("validate#evaluator")
        self.network = parser.get_parsed_content("network_def")
        self.output, self.minutes, self.piece_mib = output, minutes, piece_mib
        self.began = self.last = time.monotonic()
        self.patches, self.losses, self.points = 0, [], list[dict[str, float]]()
        self.interrupted = False

    def interrupt(self, *_: Any) -> None:
        """Handle a signal: the training ends after this step, with a last report."""
        self.interrupted = True

    def attach(self, engine: Engine) -> None:
        """Called by the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.began = self.last = time.monotonic()

    def __call__(self, engine: Engine) -> None:
        self.losses.append(engine.state.output[0]["loss"])
        self.patches += len(engine.state.batch)
        now = time.monotonic()
        over = self.interrupted or now - self.began >= 60 * self.minutes
        if now - self.last >= 60 * _EVERY or over:
            self._report(engine)
            self.last = time.monotonic()
        if over:
            engine.terminate()

    def _report(self, engine: Engine) -> None:
        loss = float(torch.as_tensor([float(each) for each in self.losses]).mean())
        minutes = (time.monotonic() - self.began) / 60
        self.validator.run(engine.state.iteration)
        point = {
            "minutes": minutes,
            "steps": engine.state.iteration,
            "patches": self.patches,
            "training_loss": loss,
            "validation_mean_iou": float(self.validator.state.metrics["val_mean_iou"]),
        }
        self.losses.clear()
        self.points.append(point)
        print(", ".join(f"{name} {value:.4g}" for name, value in point.items()), flush=True)
        if self.piece_mib:
            write_in_pieces(self.network, self.output, self.piece_mib)
        else:
            with atomic_write(self.output / "last.pt") as partial:
                torch.save({"model": self.network.state_dict()}, partial)
        table = pd.DataFrame(self.points)
        table.to_csv(self.output / "curve.csv", index=False)
        _draw(table, self.output / "curve.png")


def _draw(table: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(7, 3.5))
    titles = {"training_loss": "training loss", "validation_mean_iou": "validation mean IoU"}
    for number, (name, title) in enumerate(titles.items()):
        axes = figure.add_subplot(1, 2, number + 1)
        axes.plot(table["minutes"], table[name], marker="o")
        axes.set_xlabel("minutes")
        axes.set_title(title)
    figure.tight_layout()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def write_in_pieces(network: torch.nn.Module, output: Path, mib: float) -> list[Path]:
    """Write a network's weights in bfloat16 as files of at most so many MiB; return their paths."""
    buffer = io.BytesIO()
    state = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save({"model": state}, buffer)
    content, size = buffer.getvalue(), int(mib * 2**20)
    paths = []
    for number, start in enumerate(range(0, len(content), size)):
        paths.append(output / f"weights.pt.{number:03d}")
        with atomic_write(paths[-1]) as partial:
            partial.write_bytes(content[start : start + size])
    return paths


def configured(name: str, data: str, work: Path, init_weights: str | None, miniature: bool) -> ConfigParser:
    """Return the configuration of a training that validates only when told to; its inputs go to ``work``."""
    if data == "phantoms":
        sizes = (1, 1, 0, 1024) if miniature else (4, 1, 0, 4096)
        datalist = write_phantoms_for_all(work / "phantoms", *sizes)
    else:
        datalist = make_datalist(work, Path(data).resolve())
    parser = training_parser(name, datalist, work, DEVICE, miniature)
    settings: dict[str, Any] = {"dtype": "bfloat16", "init_weights": init_weights, "epochs": 10**6}
    if data != "phantoms":
        settings |= SETTINGS[name]
    if miniature:
        settings |= {"num_workers": 0, "batch_size": 1, "dtype": "float32"}
    else:
        settings["num_workers"] = 12
    parser.update(settings)
    kept = [each for each in parser["train#handlers"] if each["_target_"].rsplit(".", 1)[-1] in _KEPT]
    parser["train#handlers"] = kept
    said = parser["validate#handlers"]
    silent = ("StatsHandler", "TensorBoardStatsHandler")
    parser["validate#handlers"] = [
        each for each in said if isinstance(each, str) or each["_target_"].rsplit(".", 1)[-1] not in silent
    ]
    return parser


def train(
    name: str,
    minutes: float,
    data: str,
    output: Path,
    init_weights: str | None = None,
    piece_mib: float | None = None,
    miniature: bool = False,
) -> None:
    """Train one of the five bundles.

    Args:
        name: its short name.
        minutes: how long.
        data: ``"phantoms"``, or a folder with the real regions.
        output: folder for the curve and the checkpoints.
        init_weights: a checkpoint whose weights to start from.
        piece_mib: see :class:`MinuteReport`.
        miniature: train the narrow network of the tests.
    """
    with tempfile.TemporaryDirectory(prefix="multimag-gpu-") as work:
        training = configured(name, data, Path(work), init_weights, miniature)
        # In pieces or as they are, not both: large files may be no use where pieces are asked for.
        training["checkpoint_dir"] = work if piece_mib else str(output)
        training.get_parsed_content("check_views")
        trainer = trainer_of(training)
        report = MinuteReport(training, output, minutes, piece_mib)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, report.interrupt)
        report.attach(trainer)
        print("training; the first report comes after a minute", flush=True)
        trainer.run()

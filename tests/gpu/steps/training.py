"""How fast all five methods train at the paper's width, and how long they wait for data: read from slides, packed."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from tests.gpu.cases import BUNDLES, DEVICE
from tests.gpu.kit import Kit
from tests.gpu.measure import measured
from tests.gpu.trainings import trainer_of, training_parser, without_reports

FEEDS: dict[str, list[str]] = {"from slides": [], "packed": ["packed.yaml"]}


def run(kit: Kit) -> None:
    """Add a row per bundle and feed."""
    workers, seconds = (0, 0.0) if kit.miniature else (12, 4.0)
    for feed, overlays in FEEDS.items():
        for name in BUNDLES:
            if (kit.miniature and overlays and name != "dmmn") or not kit.has_time_for(f"{name}, {feed}", 8):
                continue
            output = kit.work / f"training_{name}"
            parser = training_parser(name, kit.work / "training", output, DEVICE, kit.miniature, overlays)
            parser["num_workers"] = workers
            # Enough that the loader never comes to its end.
            parser["samples_per_epoch"] = 100_000
            if kit.miniature:
                parser.update({"samples_per_epoch": 4, "batch_size": 1})
            began = time.perf_counter()
            trainer = trainer_of(without_reports(parser))
            prepared = time.perf_counter() - began
            timer = _StepTimer(trainer, warm_up=1 if kit.miniature else 5, seconds=seconds)
            with measured() as memory:
                trainer.run()
            del memory["seconds"]
            figures = {"batch_size": parser.get_parsed_content("batch_size"), "prepared_s": prepared}
            kit.add(f"{name}, {feed}", **figures, **timer.figures(), **memory)
            # Its loader's workers and its memory on the GPU end with it.
            del trainer, timer, parser
            gc.collect()


class _StepTimer:
    """Times the steps of a training after a few, for so many seconds, and then ends it."""

    def __init__(self, trainer: SupervisedTrainer, warm_up: int, seconds: float) -> None:
        self.warm_up, self.seconds = warm_up, seconds
        self.waited, self.patches, self.began, self.ended, self._asked = 0.0, 0, 0.0, 0.0, 0.0
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def figures(self) -> dict[str, Any]:
        """Return patches per second, and the share of the time spent waiting for data."""
        seconds = self.ended - self.began
        return {
            "patches": self.patches,
            "patches_per_s": self.patches / seconds,
            "waiting_share": self.waited / seconds,
        }

    def _ask(self, engine: Engine) -> None:
        self._asked = time.perf_counter()

    def _got(self, engine: Engine) -> None:
        if self.began:
            self.waited += time.perf_counter() - self._asked

    def _step(self, engine: Engine) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.began:
            self.patches += len(engine.state.batch)
            self.ended = now
            if now - self.began > self.seconds:
                engine.terminate()
        elif engine.state.iteration >= self.warm_up:
            self.began = now

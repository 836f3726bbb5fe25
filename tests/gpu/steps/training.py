"""Measure training speed and waiting time of all five methods at the paper's width, from slides and from packs."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from tests.gpu.cases import BUNDLES, DEVICE
from tests.gpu.kit import Kit
from tests.gpu.measure import free_memory, measured
from tests.gpu.trainings import trainer_of, training_parser, without_reports

FEEDS: dict[str, list[str]] = {"from slides": [], "packed": ["patch_cache.yaml"]}


def run(kit: Kit) -> None:
    """Add a row per bundle and feed, those that tell most about a feed first."""
    rows = [(BUNDLES[0], "from slides"), (BUNDLES[0], "packed")]
    rows += [(name, "from slides") for name in BUNDLES[1:]]
    # Packing is rehearsed once.
    rows += [] if kit.miniature else [(name, "packed") for name in BUNDLES[1:]]
    for name, feed in rows:
        # Packing takes most of that.
        if kit.has_time_for(f"{name}, {feed}", 25 if feed == "packed" else 8):
            with kit.attempt(f"{name}, {feed}"):
                _measure(kit, name, feed)
            # A trainer and its loader's workers end with the last reference to them, which is a cycle.
            gc.collect()


def _measure(kit: Kit, name: str, feed: str) -> None:
    output = kit.work / f"training_{name}"
    parser = training_parser(name, kit.work / "training", output, DEVICE, kit.miniature, FEEDS[feed])
    # Enough samples that the loader never comes to its end.
    parser.update({"num_workers": 12, "samples_per_epoch": 100_000})
    if feed == "packed":
        parser["patch_cache#threads"] = 16
    if kit.miniature:
        parser.update({"num_workers": 0, "samples_per_epoch": 4, "batch_size": 1})
    free_memory()
    began = time.perf_counter()
    trainer = trainer_of(without_reports(parser))
    prepared = time.perf_counter() - began
    timer = StepTimer(trainer, *((1, 0.0) if kit.miniature else (5, 4.0)))
    with measured() as memory:
        trainer.run()
    del memory["seconds"]
    figures = {"batch_size": parser.get_parsed_content("batch_size"), "prepared_s": prepared}
    kit.add(f"{name}, {feed}", **figures, **timer.figures(), **memory)


class StepTimer:
    """Times a training's steps and its waiting for data, and ends it.

    Args:
        trainer: the training.
        warm_up: steps that do not count.
        seconds: how long to time.
    """

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

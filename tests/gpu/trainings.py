"""The five bundles' trainings as their configs describe them, without validation."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from monai.utils import set_determinism

from common.bundle.parser import bundle_parser
from tests.bundles.narrow import NARROW


def training_parser(
    name: str, data: Path, output: Path, device: torch.device, miniature: bool = False, overlays: Iterable[str] = ()
) -> ConfigParser:
    """Return a bundle's training configuration.

    Args:
        name: the bundle's short name.
        data: folder of :func:`write_phantoms_for_all`, or another datalist.
        output: folder for patch indices and whatever else a training writes.
        device: where to train.
        miniature: the narrow network of the tests instead of the paper's.
        overlays: of the bundle's configs.
    """
    # That a few phantoms do not show every class needs no saying.
    logging.getLogger("common.data").setLevel(logging.ERROR)
    parser = bundle_parser(name, ["train.yaml", *overlays])
    narrow = dict(NARROW[name])
    datalist = narrow.pop("datalist")
    if miniature:
        parser.update(narrow)
    settings = {
        "datalist": str(data / datalist if data.is_dir() else data),
        "dataset_dir": str(data if data.is_dir() else data.parent),
        "output_dir": str(output),
        "cache_dir": str(output / "patch_index"),
        "checkpoint_dir": str(output),
        "device": f"$torch.device('{device}')",
        # Few phantoms do not show every class.
        "allow_missing": None,
    }
    if name == "multilevel_unet" and data.is_dir():
        # Of half-labelled patches, which the paper's regions give, few phantoms have one of each class.
        settings["min_labelled"] = 0.01
    if "patch_cache_dir" in parser:
        settings["patch_cache_dir"] = str(output / "packed")
    parser.update(settings)
    return parser


def without_reports(parser: ConfigParser) -> ConfigParser:
    """Return the configuration with a trainer that neither validates nor writes: only the steps are left."""
    parser["train#handlers"], parser["train#key_metric"] = [], None
    return parser


def trainer_of(parser: ConfigParser, seed: int = 0) -> SupervisedTrainer:
    """Return the trainer, its network's weights drawn with a seed."""
    set_determinism(seed, use_deterministic_algorithms=False)
    return parser.get_parsed_content("train#trainer")


def train_on(trainer: SupervisedTrainer, batches: list[Any]) -> list[float]:
    """Train on batches in turn, without any further randomness; return the loss of each step."""
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_connect_rate"):
            module.drop_connect_rate = 0.0
    losses: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output[0]["loss"]))
    )
    trainer.data_loader = batches
    trainer.state.max_epochs, trainer.state.epoch_length = 1, len(batches)
    trainer.run()
    return losses

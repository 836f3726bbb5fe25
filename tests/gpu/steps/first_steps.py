"""Train ten steps on the CPU and on the GPU from the same weights on the same batches, and compare the losses."""

from __future__ import annotations

import itertools
import math

import torch

from tests.gpu.cases import BUNDLES, DEVICE
from tests.gpu.kit import Kit
from tests.gpu.steps.labels import tf32
from tests.gpu.trainings import train_on, trainer_of, training_parser, without_reports

# Of float32 without TF32. Rounding grows from step to step: Adam's first steps follow a gradient's sign.
TOLERANCE = 0.02


def run(kit: Kit) -> None:
    """Add a row per bundle and precision.

    Raises:
        AssertionError: losses in float32 differ by more than the tolerance, or are not finite.
    """
    wrong = []
    for name in BUNDLES:
        if not kit.has_time_for(name, 8):
            continue
        with kit.attempt(name):
            wrong += _compare(kit, name)
    assert not wrong, f"losses unlike the CPU's: {', '.join(wrong)}"


def _compare(kit: Kit, name: str) -> list[str]:
    """Add the rows of one bundle; return those that do not agree with the CPU's."""
    wrong = []
    steps = 2 if kit.miniature else 10
    batches: list = []
    expected: list[float] = []
    runs = [(torch.device("cpu"), "float32"), (DEVICE, "float32"), (DEVICE, "bfloat16")]
    # A CPU that has to emulate bfloat16 is slow: one network is enough to rehearse.
    for device, dtype in runs if not kit.miniature or name == "dmmn" else runs[:2]:
        parser = training_parser(name, kit.work / "training", kit.work / f"first_{name}", device, kit.miniature)
        # One patch a step: DA-RefineNet's ten would otherwise take a CPU of 16 cores most of a minute.
        parser.update({"num_workers": 0, "dtype": dtype, "batch_size": 1})
        trainer = trainer_of(without_reports(parser))
        batches = batches or list(itertools.islice(parser.get_parsed_content("train#dataloader"), steps))
        with tf32(False):
            losses = train_on(trainer, batches)
        if not expected:
            expected = losses
            continue
        apart = max(abs(loss / right - 1) for loss, right in zip(losses, expected, strict=True))
        most = TOLERANCE if dtype == "float32" else math.inf
        # The largest of several numbers passes over those that are none.
        passed = all(map(math.isfinite, losses)) and apart <= most
        figures = {"steps": len(losses), "first_loss": losses[0], "last_loss": losses[-1]}
        kit.add(f"{name}, {dtype}", **figures, largest_relative_difference=apart, at_most=most, passed=passed)
        if not passed:
            wrong.append(f"{name}, {dtype}")
    return wrong

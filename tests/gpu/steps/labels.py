"""Compare the labels of all five bundles' networks on the GPU with those of the CPU in float32."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.inference import InferenceOptions
from common.slides import Slide, open_slide
from tests.gpu.cases import BUNDLES, CHECKPOINTS, DEVICE, Case, bundle_case, settled
from tests.gpu.kit import Kit

# The least share of equal labels in float32 without TF32, and in lower precisions, which may turn labels where two
# classes are nearly equally probable. The largest difference of a probability in float32.
SAME_IN_FLOAT32, SAME_AT_ALL = 0.999, 0.9
FARTHEST_IN_FLOAT32 = 0.02


def run(kit: Kit) -> None:
    """Add one row per network, context and precision.

    Raises:
        AssertionError: some do not agree with the CPU's; names them.
    """
    wrong: list[str] = []
    with open_slide(kit.work / "phantom.tif") as slide:
        for name in (*CHECKPOINTS, *BUNDLES):
            if not kit.has_time_for(name, 10):
                continue
            with kit.attempt(name):
                case = bundle_case(name, kit.miniature)
                if name in BUNDLES:
                    case = settled(case, slide, 1 if kit.miniature else 4)
                seconds = 0.0
                for options in case.contexts():
                    # One context takes about as long as another.
                    if kit.has_time_for(f"{name}, {options.context}", 1.3 * seconds):
                        began = time.monotonic()
                        wrong += _compare(kit, case, options, slide)
                        seconds = time.monotonic() - began
    assert not wrong, f"unlike the CPU's: {', '.join(wrong)}"


def _compare(kit: Kit, case: Case, options: InferenceOptions, slide: Slide) -> list[str]:
    """Add the rows of one context; return those that do not agree with the CPU's."""
    options = replace(options, dtype="float32", reader_threads=4)
    labels, probabilities = _maps(kit, case, options, slide, torch.device("cpu"))
    wrong = []
    # A CPU that has to emulate bfloat16 is slow: one network is enough to rehearse.
    every = not kit.miniature or case.name == "dmmn"
    for precision in ("float32", "float32, TF32", "bfloat16") if every else ("float32",):
        with tf32(precision.endswith("TF32")):
            made = replace(options, dtype=precision.split(",")[0])
            found, likely = _maps(kit, case, made, slide, DEVICE)
        same = float((found == labels).mean())
        farthest = float(np.abs(likely.astype(int) - probabilities).max()) / 255
        row = f"{case.name}, {options.context}, {precision}"
        least, most = (SAME_IN_FLOAT32, FARTHEST_IN_FLOAT32) if precision == "float32" else (SAME_AT_ALL, 1.0)
        passed = same >= least and farthest <= most
        figures = {"labels_equal": same, "at_least": least, "largest_probability_difference": farthest, "at_most": most}
        kit.add(row, **figures, passed=passed, labels_seen=len(np.unique(labels)))
        if not passed:
            wrong.append(row)
    return wrong


def _maps(
    kit: Kit, case: Case, options: InferenceOptions, slide: Slide, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return a slide's labels ``(h, w)`` and probabilities ``(C, h, w)``, uint8."""
    # A folder of its own each: in one that holds the maps already, nothing would be predicted.
    with tempfile.TemporaryDirectory(dir=kit.work) as folder:
        found = case.segmenter(options, device).segment(slide, Path(folder), {}, maps=("labels", "probabilities"))
        return found.maps["labels"].array[:], found.maps["probabilities"].array[:]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let float32 convolutions and matrix products round to TF32 on the GPU, or not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

"""Compare the labels of all five bundles' networks on the GPU with those of the CPU in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.inference import Options
from common.slides import Slide, open_slide
from tests.gpu.cases import BUNDLES, CHECKPOINTS, DEVICE, Case, bundle_case, settled
from tests.gpu.kit import Kit

CONTEXTS = ("per_patch", "shared", "seamless")
# What of float32 without TF32 must agree. The lower precisions may turn labels where two classes are nearly as
# probable; a tenth would be a fault.
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
            case = bundle_case(name, kit.miniature)
            if name in BUNDLES:
                case = settled(case, slide, 1 if kit.miniature else 4)
            for context in CONTEXTS:
                wrong += _compare(kit, case, context, slide)
    assert not wrong, f"unlike the CPU's: {', '.join(wrong)}"


def _compare(kit: Kit, case: Case, context: str, slide: Slide) -> list[str]:
    # Blended seamless inference is refused: there are no borders to blend.
    overlap = 0.0 if context == "seamless" else case.options.overlap
    options = replace(case.options, context=context, overlap=overlap, dtype="float32", readers=4)
    if context == "shared" and len(case.views) == 1:
        return []
    try:
        labels, probabilities = _maps(kit, case, options, slide, torch.device("cpu"))
    except ValueError as error:
        if "cannot be run with context" not in str(error) and "share nothing" not in str(error):
            raise
        return []
    wrong = []
    # A CPU that has to emulate bfloat16 is slow: one network is enough to rehearse.
    every = not kit.miniature or case.name == "dmmn"
    for precision in ("float32", "float32, TF32", "bfloat16") if every else ("float32",):
        with tf32(precision.endswith("TF32")):
            made = replace(options, dtype=precision.split(",")[0])
            found, likely = _maps(kit, case, made, slide, DEVICE)
        same = float((found == labels).mean())
        farthest = float(np.abs(likely.astype(int) - probabilities).max()) / 255
        row = f"{case.name}, {context}, {precision}"
        least, most = (SAME_IN_FLOAT32, FARTHEST_IN_FLOAT32) if precision == "float32" else (SAME_AT_ALL, 1.0)
        passed = same >= least and farthest <= most
        figures = {"labels_equal": same, "at_least": least, "largest_probability_difference": farthest, "at_most": most}
        kit.add(row, **figures, passed=passed, labels_seen=len(np.unique(labels)))
        if not passed:
            wrong.append(row)
    return wrong


def _maps(kit: Kit, case: Case, options: Options, slide: Slide, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Return a slide's labels ``(h, w)`` and probabilities ``(C, h, w)``, uint8."""
    # A folder of its own each: in one that holds the maps already, nothing would be predicted.
    with tempfile.TemporaryDirectory(dir=kit.work) as folder:
        found = case.segmenter(options, device).segment(slide, Path(folder), {}, maps=("labels", "probabilities"))
        return found.maps["labels"].array[:], found.maps["probabilities"].array[:]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within, float32 convolutions and products may round to TF32 on the GPU, as PyTorch's convolutions do by
    default."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

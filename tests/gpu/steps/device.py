"""Say what the machine is, and measure what it can do at most: large matrix products and copies."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable

import monai
import numpy as np
import torch

from tests.gpu.cases import DEVICE
from tests.gpu.kit import Kit


def run(kit: Kit) -> None:
    """Add the machine, its versions, and the two ceilings."""
    kit.add("machine", value=platform.machine(), note=f"{os.cpu_count()} CPU cores, Python {platform.python_version()}")
    versions = f"torch {torch.__version__}, monai {monai.__version__}, numpy {np.__version__}"
    kit.add("versions", value=versions, note=f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    kit.add("card", value=_card(), note=_driver())
    kit.add(
        "settings",
        value=f"TF32 in convolutions: {torch.backends.cudnn.allow_tf32}",
        note=f"cuDNN benchmark: {torch.backends.cudnn.benchmark}",
    )
    side = 256 if kit.miniature else 8192
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    left, right = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    seconds = _seconds(lambda: left @ right)
    kit.add("matrix product", value=2 * side**3 / seconds / 1e12, note=f"TFLOP/s, {dtype}, {side} x {side}")
    source = torch.empty((2**18 if kit.miniature else 2**32), dtype=torch.uint8, device=DEVICE)
    copied = torch.empty_like(source)
    seconds = _seconds(lambda: copied.copy_(source))
    kit.add("copy on the device", value=2 * source.numel() / seconds / 1e12, note="TB/s, read and written")
    host = torch.empty(2**18 if kit.miniature else 2**30, dtype=torch.uint8, pin_memory=DEVICE.type == "cuda")
    seconds = _seconds(lambda: copied[: host.numel()].copy_(host, non_blocking=True))
    kit.add("copy to the device", value=host.numel() / seconds / 1e9, note="GB/s, from pinned memory")


def synchronize() -> None:
    """Wait until the GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object], repeats: int = 10) -> float:
    """Return the median time of a piece of work, after two warm-ups."""
    found = []
    for number in range(repeats + 2):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        if number >= 2:
            found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def _card() -> str:
    if DEVICE.type != "cuda":
        return f"none: {platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    properties = torch.cuda.get_device_properties(DEVICE)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {properties.multi_processor_count} SMs"


def _driver() -> str:
    if DEVICE.type != "cuda":
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return f"driver {subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()}"
    except (OSError, subprocess.CalledProcessError):
        return "driver unknown: no nvidia-smi"

"""Precision: labels and time of the demonstration's network in float32, in bfloat16 and in what "auto" picks here.

Each is run in turn, several times, on one synthetic slide; times are ratios to the fastest, of the medians. On a CPU
with AVX2 only, and with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 on any other, "auto" is float32.

    python tests/benchmarks/precision.py [--slide SLIDE] [--rounds 3]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import fire
import numpy as np
import tifffile
import torch

from common.bundle.find import find_bundle
from common.bundle.keys import config_files
from common.bundle.run import run_configs
from common.inference.precision import resolve_dtype
from common.phantom import write_phantom

DTYPES = ("float32", "bfloat16", "auto")


def main(slide: str | None = None, rounds: int = 3) -> None:
    """Measure and print a table.

    Args:
        slide: a slide of your own; a phantom of 3,072² pixels by default.
        rounds: how often each precision is run.
    """
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = slide or str(write_phantom(folder, "phantom", 1001, (3072, 3072)).slide)
        seconds: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
        for number in range(rounds):
            for dtype in DTYPES:
                seconds[dtype].append(_segment(path, folder / dtype, dtype, warm=number == 0))
        labels = {dtype: tifffile.imread(next((folder / dtype).glob("*/prediction.tif"))) for dtype in DTYPES}
    medians = {dtype: statistics.median(found) for dtype, found in seconds.items()}
    fastest = min(medians["float32"], medians["bfloat16"])
    print(f"\n{device}, {torch.backends.cpu.get_cpu_capability()}: auto is {resolve_dtype('auto', device)}")
    print(f"{'dtype':<10}{'seconds':>9}{'to the faster':>15}{'equal to float32':>18}")
    for dtype in DTYPES:
        equal = float(np.mean(labels[dtype] == labels["float32"]))
        print(f"{dtype:<10}{medians[dtype]:>9.2f}{medians[dtype] / fastest:>15.2f}{equal:>18.4%}")


def _segment(slide: str, output: Path, dtype: str, warm: bool) -> float:
    bundle = find_bundle("dmmn")
    settings = {"slides": slide, "output_dir": str(output), "overwrite": True, "dtype": dtype}
    settings["outputs"] = ["prediction.tif"]
    files = config_files(bundle, ["inference.yaml", "demo.yaml"])
    if warm:  # What a first run prepares is not measured.
        run_configs(bundle, files, settings)
    started = time.perf_counter()
    run_configs(bundle, files, settings)
    return time.perf_counter() - started


if __name__ == "__main__":
    fire.Fire(main)

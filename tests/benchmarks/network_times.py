"""Parameters and time per slide of the DMMN paper's six networks, in the form of its Table 2.

    python tests/benchmarks/network_times.py [PATCHES]

Times PATCHES patches of 256 x 256 pixels (16 by default) at the paper's width on random weights, on the GPU if there is
one. On shared machines only ratios within one run mean something: they are printed next to the paper's.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from common.networks import NETWORKS

# Ho et al. 2021, Table 2: minutes and seconds for a slide of 31,500 patches on one Titan X.
PAPER = {"SegNet": "7:48", "UNet": "12:50", "DMMNS2": "13:16", "DMMNMS": "13:06", "DMMNM2S": "16:21", "DMMNM3": "14:52"}
PATCHES_PER_SLIDE = 31_500
REFERENCE = "UNet"


def paper_seconds(name: str) -> int:
    """The paper's time in seconds."""
    minutes, seconds = PAPER[name].split(":")
    return 60 * int(minutes) + int(seconds)


def measure(name: str, patches: int, device: torch.device) -> tuple[int, float]:
    """Parameters, and the least seconds per patch of three turns."""
    network = NETWORKS[name](out_channels=7).eval().to(device)
    batch = 8 if device.type == "cuda" else 1
    image = torch.rand(batch, 3 * len(network.mpp_ratios), 256, 256, device=device)
    best = float("inf")
    with torch.no_grad():
        network(image)
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(-(-patches // batch)):
                network(image)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - started) / (-(-patches // batch) * batch))
    return sum(p.numel() for p in network.parameters()), best


def main(patches: str = "16", output: str = "output/network_times.json") -> None:
    """Measure, print and write."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {name: measure(name, int(patches), device) for name in tqdm(PAPER, desc="timing", unit="network")}
    print(f"{'network':<10}{'parameters':>12}{'here / U-Net':>14}{'paper / U-Net':>15}")
    for name, (parameters, seconds) in found.items():
        here = seconds / found[REFERENCE][1]
        print(f"{name:<10}{parameters:>12,}{here:>14.2f}{paper_seconds(name) / paper_seconds(REFERENCE):>15.2f}")
    if device.type == "cuda":
        for name, (_, seconds) in found.items():
            print(f"{name}: {seconds * PATCHES_PER_SLIDE / 60:.1f} minutes per slide of {PATCHES_PER_SLIDE:,} patches")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(
        json.dumps({"device": str(device), "seconds_per_patch": {n: s for n, (_, s) in found.items()}})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write the slides that the other steps work on."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from slides import write_repeated_slide

from common.phantom import write_phantom
from tests.bundles.narrow import write_phantoms_for_all
from tests.gpu.floor import LARGE
from tests.gpu.kit import Kit


def run(kit: Kit) -> None:
    """Paint phantoms, and repeat one over larger slides; all at once."""
    side, period = (512, 1024) if kit.miniature else (2048, 4096)
    training = (1, 0, 0, 1024) if kit.miniature else (2, 0, 0, 4096)
    medium, large = ((1024, 1024), (800, 1100)) if kit.miniature else ((8192, 8192), LARGE)
    began = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        jobs = {
            "phantom": pool.submit(write_phantom, kit.work, "phantom", 16, (side, side)),
            "training phantoms": pool.submit(write_phantoms_for_all, kit.work / "training", *training),
            "repeated slides": pool.submit(_write_repeated, kit.work, medium, large, period),
        }
        for name, job in jobs.items():
            job.result()
            kit.add(name, ready_after_s=time.perf_counter() - began)
    size = (kit.work / "large.tif").stat().st_size
    kit.add("large slide", height=large[0], width=large[1], gigabytes=size / 1e9)


def _write_repeated(folder: Path, medium: tuple[int, int], large: tuple[int, int], period: int) -> None:
    write_repeated_slide(folder / "medium.tif", medium, period=period)
    write_repeated_slide(folder / "large.tif", large, period=period)

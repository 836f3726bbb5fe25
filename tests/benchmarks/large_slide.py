"""Memory and time of a very large slide that is nearly all glass.

    python tests/benchmarks/large_slide.py [OUTPUT] [--size 100000] [--tissue 0.02]

Three synthetic slides: SIZE pixels a side with four sections that cover TISSUE of it, the same sections on a slide of
half the side, and two of them on that. The demonstration network runs over each at 0.5 µm/px, so that the label map has
the slide's own pixels, through the bundle and with every output but those that hold the map in memory. Reported are the
peak memory of the whole process and seconds by stage: time should follow tissue and not glass.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from phantom_ablation import bundle_command
from tqdm import tqdm

from common.outputs.pyramid import TILE, write_image_pyramid
from common.phantom import BREAST
from common.phantom.layout import Layout
from common.phantom.paint import Painter
from common.slides import open_slide, tissue_mask

MPP = 0.5
OUTPUTS = ["prediction.tif", "prediction.geojson", "overlay.png", "probabilities.zarr", "entropy.tif", "summary.json"]


def write_sections(path: Path, size: int, sections: int, side: int) -> None:
    """A slide of ``size`` pixels a side with so many sections of ``side`` pixels, one in each of its quarters."""
    painters = [Painter(Layout(BREAST, 300 + number, side * MPP, side * MPP), MPP) for number in range(sections)]
    places = [_in_quarter(number, size, side) for number in range(sections)]
    glass = painters[0].image(0, 0, TILE, TILE)
    bands = partial(_band, size, painters, places, side, glass)
    tops = tqdm(range(0, size, TILE), desc=path.stem, unit="band")
    write_image_pyramid(path, map(bands, tops), (size, size), MPP, description="MultiMag phantom, mostly glass")


def _in_quarter(number: int, size: int, side: int) -> tuple[int, int]:
    row, column = divmod(number, 2)
    return tuple((2 * at + 1) * size // 4 - side // 2 for at in (row, column))


def _band(size: int, painters: list[Painter], places: list[tuple[int, int]], side: int, glass: Any, top: int) -> Any:
    height = min(TILE, size - top)
    band = np.tile(glass[:height], (1, -(-size // TILE), 1))[:, :size]
    for painter, (section_top, section_left) in zip(painters, places, strict=True):
        first, last = max(top, section_top), min(top + height, section_top + side)
        for left, width in _pieces(side) if first < last else ():
            painted = painter.image(first - section_top, left, last - first, width)
            at = section_left + left
            band[first - top : last - top, at : at + width] = painted
    return band


def _pieces(side: int) -> Iterator[tuple[int, int]]:
    for left in range(0, side, TILE):
        yield left, min(TILE, side - left)


def segmented(slide: Path, folder: Path) -> dict[str, Any]:
    """One run of the bundle, as a process of its own."""
    views = [{"mpp": MPP * factor, "size": 256} for factor in (1, 2, 4)]
    seen = {"fields_of_view": views, "target": views[0], "tissue": True}
    files = {"slides": slide, "output_dir": folder, "outputs": OUTPUTS, "overwrite": True}
    command = bundle_command(["inference.yaml", "demo.yaml"], **files, **seen)
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{slide}: the bundle failed")
    summary = json.loads((folder / slide.stem / "summary.json").read_text())
    return {
        "peak GiB": usage.ru_maxrss / 2**20,
        "seconds": time.perf_counter() - started,
        **{f"s {stage}": seconds for stage, seconds in summary["seconds"].items()},
    }


def main() -> None:
    """Write the slides that are missing, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/large_slide")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--tissue", type=float, default=0.02)
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    side = round(arguments.size * (arguments.tissue / 4) ** 0.5)
    rows = []
    for size, sections in ((arguments.size // 2, 2), (arguments.size // 2, 4), (arguments.size, 4)):
        slide = folder / f"{size}_{sections}.tif"
        if not slide.exists():
            write_sections(slide, size, sections, side)
        share = tissue_mask(open_slide(slide)).share
        found = segmented(slide, folder / "results")
        rows.append(
            {"pixels": size, "sections": sections, "tissue": share, "cm² of tissue": share * (size * MPP / 1e4) ** 2}
            | found
        )
    (folder / "large_slide.json").write_text(json.dumps(rows, indent=2))
    print(pd.DataFrame(rows).round(4).to_string(index=False))
    print(folder / "large_slide.json")


if __name__ == "__main__":
    main()

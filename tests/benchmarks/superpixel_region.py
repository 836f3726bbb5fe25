"""Superpixels and their features of a region as large as the paper's average (Mehta et al. 2018, Table I: 10,000 x
12,000 pixels at 40x), tile by tile: time against scikit-image's SLIC on all of it at once, and the most memory of each.

    python tests/benchmarks/superpixel_region.py [OUTPUT]

Each in a process of its own, one thread. Some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from skimage.color import rgb2lab
from skimage.segmentation import slic

from common.outputs.pyramid import TILE, write_image_pyramid
from common.phantom import biopsy_recipe
from common.phantom.layout import Layout
from common.phantom.paint import Painter
from common.slides import open_slide
from common.superpixels import Region, superpixel_features, superpixels

SHAPE, MPP, AREA = (10_000, 12_000), 0.25, 187.5
# Of a picture that is painted once and laid out over the region, every second one mirrored.
_PART = 2000


def painted(path: Path) -> None:
    """The region: invasive carcinoma."""
    side = _PART * MPP
    part = Painter(Layout(biopsy_recipe("invasive", 3), 3, side, side), MPP).image(0, 0, _PART, _PART)
    row = np.concatenate([part if i % 2 else part[:, ::-1] for i in range(SHAPE[1] // _PART)], axis=1)
    rows = np.concatenate([np.arange(_PART) if i % 2 else np.arange(_PART)[::-1] for i in range(SHAPE[0] // _PART)])
    bands = (row[rows[top : top + TILE]] for top in range(0, SHAPE[0], TILE))
    write_image_pyramid(path, bands, SHAPE, MPP, description="MultiMag phantom")


def tiled(path: Path) -> dict[str, float]:
    """Ours: superpixels, then features."""
    started = time.monotonic()
    with open_slide(path) as slide:
        found = superpixels(Region(slide, MPP), AREA, progress=False)
        divided = time.monotonic()
        features = superpixel_features(found, progress=False)
    assert np.isfinite(features).all()
    return {"superpixels": found.count, "SLIC": divided - started, "features": time.monotonic() - divided}


def at_once(path: Path) -> dict[str, float]:
    """scikit-image's SLIC on the whole picture."""
    image = tifffile.imread(path)
    started = time.monotonic()
    lab = rgb2lab(image).astype(np.float32)
    labels = slic(
        lab, image.shape[0] * image.shape[1] * MPP**2 // AREA, 10 / np.ptp(lab), convert2lab=False, start_label=0
    )
    return {"superpixels": int(labels.max()) + 1, "SLIC": time.monotonic() - started}


def main() -> None:
    """Paint, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/superpixel_region")
    parser.add_argument("--measure", choices=["tiled", "at_once"])
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    path = folder / "region.tif"
    if arguments.measure:
        found = {"tiled": tiled, "at_once": at_once}[arguments.measure](path)
        print(json.dumps({**found, "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    if not path.exists():
        painted(path)
    results = {}
    for way in ("tiled", "at_once"):
        command = [sys.executable, __file__, str(folder), "--measure", way]
        results[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    alone = results["at_once"]["SLIC"]
    results["ratios"] = {name: results["tiled"][name] / alone for name in ("SLIC", "features")}
    (folder / "superpixel_region.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

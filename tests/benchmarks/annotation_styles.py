"""What the way of annotating is worth, on phantoms: whole components with thin seams, the same with wide seams, and
components cropped by fields; as much labelled area each, same slides, network and steps.

    python tests/benchmarks/annotation_styles.py [OUTPUT] [--seeds 1] [--epochs 4] [--network unet]

Over the full label map of a slide of a seed outside training: mean IoU, and the share of right pixels near the true
borders. What is finished is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from phantom_ablation import measure
from scipy import ndimage

from common.phantom import write_phantoms
from common.phantom.annotate import STYLES

# µm on either side of a border.
NEAR = 20.0
# Of the predictions; pixels of the truth are half as large.
MPP = 1.0


def right_near_borders(prediction: Path, truth: Path) -> float:
    """Share of right pixels within ``NEAR`` µm of a border between classes."""
    found, labels = tifffile.imread(prediction, level=0), tifffile.imread(truth, level=0)[::2, ::2]
    border = ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)
    near = ndimage.distance_transform_edt(~border) * MPP < NEAR
    return float((found == labels)[near].mean())


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/annotation_styles")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--network", default="unet")
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    rows = []
    for style in STYLES:
        data = folder / f"data_{style}"
        if not (data / "datalist.json").exists():
            write_phantoms(data, training=8, validation=2, testing=1, size=8192, seed=100, style=style)
        for seed in range(arguments.seeds):
            run = folder / f"{style}_{seed}"
            found = measure(arguments.network, seed, arguments.epochs, data / "datalist.json", run)
            prediction, truth = next((run / "slides").glob("*/prediction.tif")), next(data.glob("*_0110_labels.tif"))
            rows.append({"style": style, **found, "right near borders": right_near_borders(prediction, truth)})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "styles.csv", index=False)
    shown = table.drop(columns=["network", "seed", "epochs"]).groupby("style", sort=False).agg(np.mean)
    print(shown.round(3).T.to_string())
    print(f"{folder / 'styles.csv'}; {arguments.seeds} seed(s)")


if __name__ == "__main__":
    main()

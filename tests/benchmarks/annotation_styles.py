"""Compare styles of annotation on phantoms: whole components with thin seams, the same with wide seams, and components
cropped by fields; the same labelled area, slides, network and steps for each.

    python tests/benchmarks/annotation_styles.py [OUTPUT] [--seeds 1] [--epochs 3] [--network unet]

Over the full label map of a slide of a seed outside training: mean IoU, and the share of right pixels near the true
borders. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from phantom_ablation import PHANTOM, measure
from scipy import ndimage
from tqdm import tqdm

from common.annotations import write_geojson
from common.phantom import BREAST, write_phantoms
from common.phantom.annotate import STYLES, annotate
from common.phantom.layout import Layout
from common.phantom.paint import Painter

# µm on either side of a border.
NEAR = 20.0
# Of the predictions; pixels of the truth are half as large.
MPP = 1.0
SIZE, SLIDE_MPP, FIRST_SEED = 8192, 0.5, 100


def annotated(whole: Path, style: str, folder: Path) -> Path:
    """The datalist ``whole`` with its training and validation slides annotated in another style."""
    path = folder / "datalist.json"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(whole.read_text())
    entries = [entry for section in content.values() for entry in section]
    for seed, entry in tqdm(list(enumerate(entries, FIRST_SEED)), desc=f"annotating: {style}", unit="slide"):
        entry["image"] = str(whole.parent / entry["image"])
        if entry["label"].endswith(".geojson"):
            painter = Painter(Layout(BREAST, seed, SIZE * SLIDE_MPP, SIZE * SLIDE_MPP), SLIDE_MPP)
            write_geojson(folder / entry["label"], annotate(painter, SIZE, SIZE, style), BREAST.scheme)
        else:
            entry["label"] = str(whole.parent / entry["label"])
    path.write_text(json.dumps(content, indent=2))
    return path


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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--network", default="unet")
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    whole = folder / "data_whole" / "datalist.json"
    if not whole.exists():
        write_phantoms(whole.parent, 8, 2, 1, size=SIZE, mpp=SLIDE_MPP, seed=FIRST_SEED, style=STYLES[0])
    truth = next(whole.parent.glob("*_0110_labels.tif"))
    rows = []
    for style in STYLES:
        datalist = annotated(whole, style, folder / f"data_{style}")
        for seed in range(arguments.seeds):
            run = folder / f"{style}_{seed}"
            found = measure(PHANTOM, arguments.network, seed, arguments.epochs, datalist, run)
            prediction = next((run / "slides").glob("*/prediction.tif"))
            rows.append({"style": style, **found, "right near borders": right_near_borders(prediction, truth)})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "styles.csv", index=False)
    shown = table.drop(columns=["network", "seed", "epochs"]).groupby("style", sort=False).agg(np.mean)
    print(shown.round(3).T.to_string())
    print(f"{folder / 'styles.csv'}; {arguments.seeds} seed(s)")


if __name__ == "__main__":
    main()

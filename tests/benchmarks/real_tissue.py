"""A narrow DMMN-M3 on three real breast cancer regions: trained on 1008 and half of 1019, checkpoint picked on the
other half, tested on 1015, by the DMMN bundle's own commands. One seed; three regions; 1015 is never seen before.

    python tests/benchmarks/real_tissue.py [OUTPUT]

Needs ../shared/data/bcss_tumour next to the checkout; says so and ends without it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from phantom_ablation import bundle
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
REGIONS = REPOSITORY.parent / "shared" / "data" / "bcss_tumour"
OVERLAY = Path(__file__).with_suffix(".yaml")
LAID = ["demo.yaml", str(OVERLAY)]
UNLABELLED = 255


def make_datalist(folder: Path, regions: Path = REGIONS) -> Path:
    """1019's left half trains, its right half validates: each half is unlabelled in the other's label image."""
    mask = np.asarray(Image.open(regions / "1019_tumour.png"))
    values = {"0": "other", "1": "tumour", str(UNLABELLED): None}
    half = mask.shape[1] // 2
    for name, columns in (("left", slice(half, None)), ("right", slice(0, half))):
        labels = mask.copy()
        labels[:, columns] = UNLABELLED
        Image.fromarray(labels).save(folder / f"1019_{name}.png")

    def entry(region: str, label: Path) -> dict:
        return {"image": str(regions / f"{region}.tif"), "label": str(label.absolute()), "label_values": values}

    content = {
        "training": [entry("1008", regions / "1008_tumour.png"), entry("1019", folder / "1019_left.png")],
        "validation": [entry("1019", folder / "1019_right.png")],
        "testing": [entry("1015", regions / "1015_tumour.png")],
    }
    path = folder / "datalist.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def main(output: str = "output/real_tissue") -> None:
    """Train, score, segment; print and write the figures."""
    if not REGIONS.is_dir():
        print(f"left out: {REGIONS} is not here")
        return
    folder = Path(output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    datalist = make_datalist(folder)
    started = time.monotonic()
    bundle(["train.yaml", *LAID], datalist=datalist, output_dir=folder / "train", checkpoint_dir=folder)
    seconds = time.monotonic() - started
    checkpoint = folder / "model.pt"
    bundle(["train.yaml", "evaluate.yaml", *LAID], datalist=datalist, output_dir=folder / "test", checkpoint=checkpoint)
    bundle(["inference.yaml", *LAID], slides=datalist, output_dir=folder / "slides", checkpoint=checkpoint)
    scores = json.loads((folder / "test" / "scores.json").read_text())
    print(f"\ntrained in {seconds / 60:.0f} minutes on this machine; region 1015, {scores['labelled_pixels']} pixels:")
    for name, row in scores["classes"].items():
        print(f"  {name:<8} IoU {row['iou']:.3f}  recall {row['recall']:.3f}  precision {row['precision']:.3f}")
    print(f"  mean IoU {scores['mean_iou']:.3f}; lost without the right context: {scores['context_reliance']}")
    print(f"  {folder / 'slides' / '1015' / 'overlay.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])

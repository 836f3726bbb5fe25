"""A U-Net of the MRN bundle on real lymph nodes: 50 patches of CAMELYON for training, 12 others for testing.

    python tests/benchmarks/camelyon_patches.py [OUTPUT]

A smoke test: the patches are 512² pixels with coarse outlines of tumour, have no surroundings, and their µm/px is not
known (0.5 is put in). One resolution, one seed. Needs ../shared/data/camelyon_patches next to the checkout; says so and
ends without it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from mrn_ablation import OVERLAY
from phantom_ablation import REPOSITORY, bundle

MRN = REPOSITORY / "bundles" / "pathology_mrn_segmentation"
PATCHES = REPOSITORY.parent / "shared" / "data" / "camelyon_patches"
LAID = ["small.yaml", str(OVERLAY), "ablations/unet_0.5.yaml"]
TRAINING = 50


def make_datalist(folder: Path) -> Path:
    """Dealt at random. The last checkpoint is tested, whatever validation says: it is on the testing patches."""
    images = sorted(PATCHES.glob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(images))
    entries = [
        {
            "image": str(images[i]),
            "label": str(images[i].with_name(f"{images[i].stem}_tumour.png")),
            "label_values": {"0": "normal", "1": "tumour"},
            "mpp": 0.5,
        }
        for i in order
    ]
    content = {"training": entries[:TRAINING], "validation": entries[TRAINING:], "testing": entries[TRAINING:]}
    path = folder / "datalist.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def main(output: str = "output/camelyon_patches") -> None:
    """Train, score; print the figures."""
    if not PATCHES.is_dir():
        print(f"left out: {PATCHES} is not here")
        return
    folder = Path(output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    same = {"datalist": make_datalist(folder), "cache_dir": folder / "patch_index"}
    # Validated once, at the end: what is tested does not pick the checkpoint.
    named = {"checkpoint_dir": folder, "checkpoint_name": "model.pt", "output_dir": folder / "train"}
    bundle(["train.yaml", *LAID], MRN, **same, **named)
    scored = {"checkpoint": folder / "model.pt", "output_dir": folder / "test", "elsewhere": False}
    bundle(["train.yaml", "evaluate.yaml", *LAID], MRN, **same, **scored)
    pooled = json.loads((folder / "test" / "roc.json").read_text())["pooled"]
    figures = ", ".join(f"{name} {pooled[name]:.3f}" for name in ("auc", "sensitivity", "specificity", "dice"))
    print(f"12 patches of real tissue: {figures}; {folder / 'test' / 'roc.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])

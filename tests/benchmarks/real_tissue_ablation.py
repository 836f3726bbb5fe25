"""The DMMN paper's six networks at a quarter of their width on three real breast cancer regions, one seed: trained on
1008 and half of 1019, tested on those targets of 1015 whose context lies inside the region.

    python tests/benchmarks/real_tissue_ablation.py [OUTPUT] [--epochs 4]

Figures and panels as phantom_ablation.py gives them. What is finished is not done again. Needs
../shared/data/bcss_tumour next to the checkout; says so and ends without it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser
from phantom_ablation import NETWORKS, TARGET, Task, measure, report
from PIL import Image
from real_tissue import OVERLAY, REGIONS, UNLABELLED, make_datalist

# Targets on every side whose coarsest view (four targets wide) reaches over the border.
MARGIN = 2
REAL = Task(OVERLAY, mpp=0.25)


def with_context_inside(datalist: Path, folder: Path) -> Path:
    """The datalist with the test region's labels kept only where all of a target's views lie inside."""
    content = json.loads(datalist.read_text())
    for entry in content["testing"]:
        labels = np.asarray(Image.open(entry["label"]))
        kept = np.full_like(labels, UNLABELLED)
        inside = tuple(slice(MARGIN * TARGET, (side // TARGET - MARGIN) * TARGET) for side in labels.shape)
        kept[inside] = labels[inside]
        entry["label"] = str(folder / f"{Path(entry['image']).stem}_inside.png")
        Image.fromarray(kept).save(entry["label"])
    path = folder / "inside.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def main() -> None:
    """Run what is missing, then print and write the table and the panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/real_tissue_ablation")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    if not REGIONS.is_dir():
        print(f"left out: {REGIONS} is not here")
        return
    folder = Path(arguments.output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    datalist = with_context_inside(make_datalist(folder), folder)
    rows = [measure(REAL, network, 0, arguments.epochs, datalist, folder / f"{network}_0") for network in NETWORKS]
    config = ConfigParser()
    config.read_config(str(OVERLAY))
    report(rows, datalist, config.get_parsed_content("scheme"), folder)


if __name__ == "__main__":
    main()

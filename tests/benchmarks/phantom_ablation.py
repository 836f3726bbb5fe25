"""The DMMN paper's six networks at a quarter of their width, on phantoms: same slides, batches and steps for each.

    python tests/benchmarks/phantom_ablation.py [OUTPUT] [--seeds 3] [--epochs 3]

Per network and seed: mean IoU, recall and precision over the full label map of a slide of a seed outside training, what
is lost when the coarse views come from elsewhere, and how much the seams of targets show (label changes along them over
those elsewhere). What is finished is not done again, so that the command can be stopped and repeated. A seed takes more
than half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tifffile

from common.classes import ClassScheme
from common.evaluation.comparison import compare_runs
from common.metrics.segmentation import seam_ratio
from common.phantom import BREAST, write_phantoms

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "bundles" / "pathology_dmmn_segmentation"
# A quarter of the paper's widths.
WHOLE, HALF = [16, 32, 64, 128, 256], [8, 16, 32, 64, 128]
NETWORKS = {
    "segnet": WHOLE,
    "unet": WHOLE,
    "dmmn_s2": WHOLE,
    "dmmn_ms": HALF,
    "dmmn_m2s": HALF,
    "dmmn_m3": HALF,
}
SINGLE = ("segnet", "unet")
TARGET = 256


@dataclass(frozen=True)
class Task:
    """A task that networks are compared on.

    Attributes:
        overlay: config laid over demo.yaml.
        mpp: µm/px of the finest view, which is all that the single-magnification networks see.
    """

    overlay: Path
    mpp: float


PHANTOM = Task(Path(__file__).with_suffix(".yaml"), mpp=1.0)


def bundle_command(configs: list[str], root: Path = BUNDLE, **overrides: object) -> list[str]:
    """The command line of one run of a bundle."""
    files = [str(root / "configs" / name) for name in configs]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(files)]
    command += ["--bundle_root", str(root), "--logging_file", str(root / "configs" / "logging.conf")]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    return command


def bundle(configs: list[str], root: Path = BUNDLE, env: Mapping[str, str] | None = None, **overrides: object) -> None:
    """One run of a bundle."""
    subprocess.run(bundle_command(configs, root, **overrides), check=True, env=env)


def measure(task: Task, network: str, seed: int, epochs: int, datalist: Path, folder: Path) -> dict:
    """Train, score and segment with one network; what was found is kept in ``result.json``."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    overlay = [str(task.overlay), *([] if network == "dmmn_m3" else [f"ablations/{network}.yaml"])]
    network_def = {"network_def#channels": NETWORKS[network]}
    network_def |= {"fields_of_view": [{"mpp": task.mpp, "size": TARGET}]} if network in SINGLE else {}
    same = {"datalist": datalist, **network_def}
    cache = {"cache_dir": datalist.parent / "patch_index"}
    checkpoint = folder / "model.pt"
    named = {"checkpoint_dir": folder, "checkpoint_name": checkpoint.name, "output_dir": folder / "train"}
    # Validated once, at the end: no network's checkpoint is picked by luck.
    budget = {"seed": seed, "epochs": epochs, "val_interval": epochs}
    bundle(["train.yaml", "demo.yaml", *overlay], **budget, **same, **cache, **named)
    scored = {"checkpoint": checkpoint, "output_dir": folder / "scores"}
    bundle(["train.yaml", "evaluate.yaml", "demo.yaml", *overlay], **same, **cache, **scored)
    segmented = {"slides": datalist, "checkpoint": checkpoint, "output_dir": folder / "slides"}
    outputs = ["prediction.tif", "overlay.png", "summary.json"]
    bundle(["inference.yaml", "demo.yaml", *overlay], **network_def, **segmented, outputs=outputs)
    scores = json.loads((folder / "scores" / "scores.json").read_text())
    prediction = next((folder / "slides").glob("*/prediction.tif"))
    found = {
        "network": network,
        "seed": seed,
        "epochs": epochs,
        **{f"mean {figure}": scores[f"mean_{figure}"] for figure in ("iou", "recall", "precision")},
        **{f"IoU {name}": row["iou"] for name, row in scores["classes"].items()},
        "lost without context": scores.get("context_reliance", {}).get("views 2+3"),
        "seams": seam_ratio(tifffile.imread(prediction, level=0), TARGET),
    }
    result.write_text(json.dumps(found, indent=2))
    return found


def main() -> None:
    """Run what is missing, then print and write the table and the panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/phantom_ablation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    datalist = folder / "data" / "datalist.json"
    if not datalist.exists():
        write_phantoms(datalist.parent, training=8, validation=2, testing=1, size=8192, seed=100)
    rows = [
        measure(PHANTOM, network, seed, arguments.epochs, datalist, folder / f"{network}_{seed}")
        for seed in range(arguments.seeds)
        for network in NETWORKS
    ]
    report(rows, datalist, BREAST.scheme, folder)


def report(rows: list[dict], datalist: Path, scheme: ClassScheme, folder: Path) -> None:
    """Print the table of means and spreads over seeds; write it, and the panels of the first seed."""
    table = pd.DataFrame(rows)
    table.to_csv(folder / "ablation.csv", index=False)
    numbers = table.drop(columns=["seed", "epochs"]).groupby("network", sort=False).agg(["mean", "std"])
    print(numbers.round(3).T.to_string())
    compare_runs({name: folder / f"{name}_0" / "slides" for name in NETWORKS}, datalist, scheme, folder / "panels")
    print(f"{folder / 'ablation.csv'}, and pictures in {folder / 'panels'}; {table['seed'].nunique()} seed(s)")


if __name__ == "__main__":
    main()

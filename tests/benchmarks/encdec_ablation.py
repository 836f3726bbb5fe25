"""Rows of Table II of Mehta et al. 2018 at an eighth of the paper's width, and SP-SVM, on synthetic regions of breast
biopsies: same regions, batches and steps for each.

    python tests/benchmarks/encdec_ablation.py [OUTPUT] [--seeds 2] [--epochs 5] [--jobs 2] [--all]

Per network and seed: F1, mean IoU and pixel accuracy over the first 30 testing regions, target by target as the paper's
patches are, and the mean IoU lost when what is around the targets comes from elsewhere. Five rows, or all with --all.
What is finished is not done again, so that the command can be stopped and repeated. More than an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from phantom_ablation import REPOSITORY, bundle

from common.evaluation.comparison import compare_runs
from common.phantom import BIOPSY_CLASSES, write_breast_biopsies

ENCDEC = REPOSITORY / "bundles" / "pathology_multires_encdec_segmentation"
OVERLAY = Path(__file__).with_suffix(".yaml")
# Title of Table II -> overlay of one and of several resolutions.
TABLE = {
    "Plain": ("single_plain", "multi_plain"),
    "Residual": ("single_residual", "multi_residual"),
    "Own": ("single_own", None),
    "A1": ("single_a1", "multi_a1"),
    "A2": ("single_a2", "multi_a2"),
    "A3": ("single_a3", "multi_a3"),
    "Fusion-A": (None, "multi_fusion_a"),
    "Fusion-B": (None, "multi_fusion_b"),
}
EVERY = {
    f"{title}, {'single' if number == 0 else 'multi'}": overlay
    for title, overlays in TABLE.items()
    for number, overlay in enumerate(overlays)
    if not (number == 0 and title.startswith("Fusion"))
}
FIVE = ("Own, multi", "Own, single", "Plain, multi", "Plain, single", "Fusion-A, multi")
SP_SVM = "SP-SVM"
SCORED = 30
# At the phantom's 1 µm/px: superpixels as large as the paper's, of fewer pixels.
SP_SETTINGS = {"class_weight": "balanced", "sp_mpp": 1.0}


def painted(folder: Path) -> Path:
    """The phantom's regions, and ``scored.json``, whose testing section is that for Table II."""
    data = folder / "data"
    if not (data / "datalist.json").exists():
        write_breast_biopsies(data)
    datalist = json.loads((data / "datalist.json").read_text())
    (data / "scored.json").write_text(json.dumps({**datalist, "testing": datalist["testing"][:SCORED]}))
    return data


def laid(title: str) -> list[str]:
    """Configs over the bundle's own."""
    return ["small.yaml", str(OVERLAY), *([f"ablations/{EVERY[title]}.yaml"] if EVERY[title] else [])]


def run_folder(folder: Path, title: str, seed: int) -> Path:
    """Return the folder of a network's checkpoint (``model.pt``) and scores."""
    return folder / f"{title.replace(', ', '_')}_{seed}"


def measure(title: str, seed: int, epochs: int, threads: int, data: Path, folder: Path) -> dict:
    """Train and score one network; what was found is kept in ``result.json``."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    same = {"cache_dir": data / "patch_index", "datalist": data / "scored.json", "checkpoint_name": "model.pt"}
    if not (folder / "model.pt").exists():
        files = {"checkpoint_dir": folder / "training", "output_dir": folder / "training"}
        bundle(["train.yaml", *laid(title)], ENCDEC, env, **same, **files, seed=seed, epochs=epochs)
        (folder / "training" / "model.pt").rename(folder / "model.pt")
    files = {"checkpoint": folder / "model.pt", "output_dir": folder / "testing"}
    bundle(["train.yaml", "evaluate.yaml", *laid(title)], ENCDEC, env, **same, **files)
    scores = json.loads((folder / "testing" / "scores.json").read_text())
    found = {
        "network": title,
        "seed": seed,
        **figures(scores),
        "lost without ring": scores["context_reliance"].get("ring"),
    }
    result.write_text(json.dumps(found, indent=2))
    return found


def figures(scores: dict) -> dict:
    """Those of Table II, and each label's F1."""
    table = {"F1": scores["mean_f1"], "mIoU": scores["mean_iou"], "PA": scores["pixel_accuracy"]}
    return {**table, **{f"F1 {name}": row["f1"] for name, row in scores["classes"].items()}}


def superpixel_baseline(data: Path, folder: Path) -> dict:
    """Fit SP-SVM to the training regions and score it on the same testing regions."""
    slides = folder / "slides"
    if not (folder / "model.skops").exists():
        settings = {"checkpoint": folder / "model.skops", "output_dir": slides, **SP_SETTINGS}
        outputs = ["prediction.tif", "summary.json"]
        bundle(["sp_svm.yaml"], ENCDEC, datalist=data / "datalist.json", outputs=outputs, **settings)
    compare_runs({SP_SVM: slides}, data / "scored.json", BIOPSY_CLASSES, folder / "scores")
    scores = json.loads((folder / "scores" / "comparison.json").read_text())[SP_SVM]
    return {"network": SP_SVM, "seed": 0, **figures(scores)}


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/encdec_ablation")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    data = painted(folder)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [
            pool.submit(measure, title, seed, arguments.epochs, threads, data, run_folder(folder, title, seed))
            for seed in range(arguments.seeds)
            for title in (EVERY if arguments.all else FIVE)
        ]
        rows = [run.result() for run in runs]
    rows.append(superpixel_baseline(data, folder / "SP-SVM"))
    table = pd.DataFrame(rows)
    table.to_csv(folder / "ablation.csv", index=False)
    print(table.drop(columns="seed").groupby("network", sort=False).agg(["mean", "std"]).round(3).T.to_string())
    print(folder / "ablation.csv")


if __name__ == "__main__":
    main()

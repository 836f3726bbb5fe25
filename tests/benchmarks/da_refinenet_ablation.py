"""Five variants of Li et al. 2020 with one small encoder on synthetic slides in BACH's layout: same slides, slices and
steps for each.

    python tests/benchmarks/da_refinenet_ablation.py [OUTPUT] [--seeds 3] [--epochs 1] [--jobs 2]

Per variant and seed: mean IoU, IoUs, accuracy and Score over slices of the testing slide, chosen as the paper chooses
them, and over the stitched slide; the same over tissue that only its surroundings beyond 680 µm tell; and the mean IoU
lost when the second input comes from elsewhere. --epochs is of each of the three stages. What is finished is not done
again, so that the command can be stopped and repeated. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from phantom_ablation import REPOSITORY, bundle

from common.data import datalist_from_bach
from common.evaluation.comparison import compare_runs
from common.phantom import BACH_CLASSES, write_bach

DA_REFINENET = REPOSITORY / "bundles" / "pathology_da_refinenet_segmentation"
VARIANTS = {
    "single": "single_50",
    "multi-size": "multi_size_50",
    "dual, add": "add_50",
    "dual, concat": "concat_50",
    "dual, attention": "attention_50",
}
OVERLAY = Path(__file__).with_suffix(".yaml")
# Slices per epoch, and of the testing slide with and without benign or in situ.
LEARNT, CONTAINING, OTHERS = 1500, 600, 300


def painted(folder: Path) -> Path:
    """The synthetic slides and their datalists."""
    data = folder / "data"
    if not (data / "far.json").exists():
        write_bach(data, seed=70, far=True)
    datalist_from_bach(data, data / "datalist.json")
    return data


def run_folder(folder: Path, title: str, seed: int) -> Path:
    """Return the folder of a variant's checkpoint, scores and segmented slide."""
    return folder / f"{title.replace(', ', '_')}_{seed}"


def measure(title: str, seed: int, epochs: int, threads: int, data: Path, folder: Path) -> dict:
    """Train, score and run one variant; what was found is kept in ``result.json``."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # The overlay names the paper's encoders, which small.yaml after it makes small again.
    laid = [f"ablations/{VARIANTS[title]}.yaml", "small.yaml", str(OVERLAY)]
    same = {"cache_dir": data / "patch_index", "checkpoint_name": "model.pt"}
    if not (folder / "model.pt").exists():
        files = {"checkpoint_dir": folder / "training", "output_dir": folder / "training"}
        steps = {"seed": seed, "epochs_per_stage": epochs, "samples_per_epoch": LEARNT}
        bundle(["train.yaml", *laid], DA_REFINENET, env, datalist=data / "datalist.json", **same, **files, **steps)
        (folder / "training" / "model.pt").rename(folder / "model.pt")
    scored = {}
    for name, datalist, settings in (
        ("patches", "datalist.json", {"testing_patches#containing": CONTAINING, "testing_patches#others": OTHERS}),
        ("far", "far.json", {"testing_patches": "$None", "stride": 120}),
    ):
        files = {"checkpoint": folder / "model.pt", "output_dir": folder / name, "datalist": data / datalist}
        bundle(["train.yaml", "evaluate.yaml", *laid], DA_REFINENET, env, **same, **files, **settings)
        scored[name] = json.loads((folder / name / "scores.json").read_text())
    files = {"checkpoint": folder / "model.pt", "output_dir": folder / "slides", "slides": data / "datalist.json"}
    bundle(["inference.yaml", *laid], DA_REFINENET, env, outputs=["prediction.tif", "summary.json"], **files)
    compare_runs({title: folder / "slides"}, data / "datalist.json", BACH_CLASSES, folder / "stitched")
    scored["slides"] = json.loads((folder / "stitched" / "comparison.json").read_text())[title]
    reliance = scored["far"].get("context_reliance") or {}
    found = {
        "variant": title,
        "seed": seed,
        "lost": reliance.get("view 2"),
        **{k: figures(v) for k, v in scored.items()},
    }
    result.write_text(json.dumps(found, indent=2))
    return found


def figures(scores: dict) -> dict:
    """Those of the paper's tables."""
    ious = {f"IoU {name}": row["iou"] for name, row in scores["classes"].items()}
    table = {"MIoU": scores["mean_iou"], **ious, "accuracy": scores["pixel_accuracy"], "Score": scores["bach_score"]}
    return {**table, "pixels": scores["labelled_pixels"]}


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/da_refinenet_ablation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    data = painted(folder)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [
            pool.submit(measure, title, seed, arguments.epochs, threads, data, run_folder(folder, title, seed))
            for seed in range(arguments.seeds)
            for title in VARIANTS
        ]
        found = [run.result() for run in runs]
    rows = [
        {"variant": one["variant"], "over": over, "seed": one["seed"], **one[over]}
        | ({"lost": one["lost"]} if over == "far" else {})
        for one in found
        for over in ("patches", "slides", "far")
    ]
    table = pd.DataFrame(rows)
    if table.groupby("over")["pixels"].nunique().max() > 1:
        raise SystemExit(f"the variants were not scored over the same pixels: {folder}")
    table.to_csv(folder / "ablation.csv", index=False)
    grouped = table.drop(columns="seed").groupby(["over", "variant"], sort=False).agg(["mean", "std"])
    print(grouped.round(3).T.to_string())
    runs_of_first = {title: run_folder(folder, title, 0) / "slides" for title in VARIANTS}
    compare_runs(runs_of_first, data / "datalist.json", BACH_CLASSES, folder / "comparison")
    print(folder / "ablation.csv", folder / "comparison")


if __name__ == "__main__":
    main()

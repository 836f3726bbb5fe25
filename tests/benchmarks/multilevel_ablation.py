"""The multi-level U-Net against crop, HookNet and a single view, more and less augmentation, and iterated against once:
on phantoms of stains and scanners that were trained on, and of others.

    python tests/benchmarks/multilevel_ablation.py [OUTPUT] [--seeds 1] [--patches 1600] [--jobs 2]

All train on as many patches with EfficientNet-B0 (HookNet has no encoder of that kind) at 256² (284² for HookNet, which
predicts 70² of them). Iterated, the base model trains on as many and three master steps on half as many each; in
comparison, a network trained once on as many as these together. Scored over the middle of 12 testing slides: half of
stains and scanners seen in training, the others of an unseen stain, an unseen scanner, or both. What is finished is not
done again, so that the command can be stopped and repeated. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from phantom_ablation import REPOSITORY, bundle

from common.phantom import write_multi_stain

MULTILEVEL = REPOSITORY / "bundles" / "pathology_multilevel_unet_segmentation"
OVERLAY = Path(__file__).with_suffix(".yaml")
SMALL = ["small.yaml", str(OVERLAY)]
BASIC = ["basic"]
ALL = ["basic", "heavy_color", "targeted_hsv", "noise", "blur", "contrast", "edges", "distortion", "xy_jitter"]
ITERATED = "iterated"
# Of the master steps, as a share of the base model's patches.
SHARE, MASTERS = 0.5, 3
# Title: overlay, augmentations, and how many times as many patches.
VARIANTS: dict[str, tuple[str | None, list[str], float]] = {
    "compress": (None, BASIC, 1),
    "crop": ("crop", BASIC, 1),
    "single view": ("single_view", BASIC, 1),
    "HookNet": ("hooknet", BASIC, 1),
    "compress, no augmentation": (None, [], 1),
    "compress, all augmentations": (None, ALL, 1),
    "compress, stain normalization": ("stain_normalization", BASIC, 1),
    "compress, all augmentations, longer": (None, ALL, 1 + MASTERS * SHARE),
}
# Of Table 8 the base model and as many master steps; thresholds and augmentations are the table's.
STEPS = (
    ("base", 0.9, BASIC),
    ("master_1", 0.8, ["basic", "color_jitter", "noise"]),
    ("master_2", 0.7, ["basic", "heavy_color", "noise"]),
    ("master_3", 0.6, ["basic", "heavy_color", "targeted_hsv", "noise"]),
)
# Row, column, height and width of what is scored of each testing slide.
MIDDLE = [1280, 1280, 1536, 1536]


def painted(folder: Path) -> Path:
    """The synthetic slides and a datalist whose testing slides are cut to their middle."""
    data = folder / "data"
    path = data / "datalist.json"
    if not path.exists():
        write_multi_stain(data, seed=100)
    sections = json.loads(path.read_text())
    for entry in sections["testing"]:
        entry["regions"] = [MIDDLE]
    (data / "scored.json").write_text(json.dumps(sections))
    return data


def evaluated(folder: Path, overlays: list[str], env: Mapping[str, str], data: Path) -> dict[str, Any]:
    """Figures of each group of testing slides."""
    files = {"checkpoint": folder / "model.pt", "output_dir": folder / "scores", "datalist": data / "scored.json"}
    if not (folder / "scores" / "scores.json").exists():
        configs = ["train.yaml", "evaluate.yaml", *overlays, *SMALL]
        bundle(configs, MULTILEVEL, env, cache_dir=data / "patch_index", group_by=["seen", "stain", "scanner"], **files)
    scores = json.loads((folder / "scores" / "scores.json").read_text())
    groups = {name: figures(found) for name, found in scores["groups"]["seen"].items()}
    lost = (scores.get("context_reliance") or {}).get("view 2")
    return {"all": {**figures(scores), "lost": lost}, **groups}


def figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """Those of the paper's tables."""
    found = {f"IoU {name}": scores["classes"][name]["iou"] for name in ("tumour", "others")}
    return {"mean IoU": scores["mean_iou"], **found, "pixels": scores["labelled_pixels"]}


def measure(title: str, seed: int, patches: int, threads: int, data: Path, folder: Path) -> dict[str, Any]:
    """Train and score one variant."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    overlay, augmentations, times = VARIANTS[title]
    patches = round(patches * times)
    overlays = [f"ablations/{overlay}.yaml"] if overlay else []
    if not (folder / "model.pt").exists():
        training = folder / "training"
        steps = {"epochs": 1, "val_interval": 1, "samples_per_epoch": patches, "seed": seed}
        steps["lr_cycle_steps"] = patches // 8
        files = {"datalist": data / "scored.json", "output_dir": training, "checkpoint_dir": training}
        same = {"cache_dir": data / "patch_index", "checkpoint_name": "model.pt", "augmentations": augmentations}
        bundle(["train.yaml", *overlays, *SMALL], MULTILEVEL, env, **files, **same, **steps)
        (training / "model.pt").rename(folder / "model.pt")
    return evaluated(folder, overlays, env, data)


def iterate(seed: int, patches: int, threads: int, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Train step after step with iterative.yaml's class, and score the first and the last step."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    each = [patches, *[round(SHARE * patches)] * MASTERS]
    steps = [
        {
            "name": name,
            "configs": ["ablations/single_view.yaml"] if number == 0 else [],
            "predictions": number > 0,
            "goes_on": number > 1,
            "threshold": threshold,
            "settings": {
                "augmentations": augmentations,
                "samples_per_epoch": each[number],
                "lr_cycle_steps": each[number] // 8,
            },
        }
        for number, (name, threshold, augmentations) in enumerate(STEPS)
    ]
    given = {"datalist": data / "scored.json", "output_dir": folder / "steps"}
    given |= {"settings": {"epochs": 1, "seed": seed}}
    given |= {"iterative#steps": steps, "iterative#configs": SMALL}
    given |= {"inference": {"outputs": ["prediction.tif", "summary.json"]}}
    bundle(["iterative.yaml"], MULTILEVEL, env, **given)
    found = {}
    for number, name in ((0, "base"), (len(STEPS) - 1, STEPS[-1][0])):
        overlays = ["ablations/single_view.yaml"] if number == 0 else []
        of_step = folder / "steps" / f"{number}_{name}"
        found[f"{ITERATED}: {name}"] = evaluated(of_step, overlays, env, data)
    return found


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/multilevel_ablation")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--patches", type=int, default=1600)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    data = painted(folder)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {}
        for seed in range(arguments.seeds):
            place = folder / f"{ITERATED}_{seed}"
            jobs[ITERATED, seed] = pool.submit(iterate, seed, arguments.patches, threads, data, place)
            for title in VARIANTS:
                place = folder / f"{title.replace(', ', '_').replace(' ', '_')}_{seed}"
                jobs[title, seed] = pool.submit(measure, title, seed, arguments.patches, threads, data, place)
        for (title, seed), job in jobs.items():
            made = job.result()
            found.update({(name, seed): one for name, one in (made if title == ITERATED else {title: made}).items()})
    rows = [
        {"variant": title, "seed": seed, "slides": group, **values}
        for (title, seed), groups in found.items()
        for group, values in groups.items()
    ]
    table = pd.DataFrame(rows)
    if table.groupby("slides")["pixels"].nunique().max() > 1:
        raise SystemExit(f"the variants were not scored over the same pixels: {folder}")
    table.to_csv(folder / "ablation.csv", index=False)
    wide = table.pivot_table(index="variant", columns="slides", values=["mean IoU", "IoU tumour", "IoU others"])
    print(wide.round(3).to_string())
    print(table[table["slides"] == "all"][["variant", "seed", "lost"]].to_string(index=False))
    print(folder / "ablation.csv")


if __name__ == "__main__":
    main()

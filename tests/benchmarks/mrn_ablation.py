"""U-Net at each of four µm/px and both MRNs (Gu et al. 2018, Figure 3) at base width 8 on synthetic lymph nodes in
CAMELYON16's folders: same slides, batches and steps for each, and as many patches to draw from.

    python tests/benchmarks/mrn_ablation.py [OUTPUT] [--seeds 3] [--epochs 5] [--jobs 2]

Per network and seed the area under the ROC curve over all tissue of the testing slides, at the network's own µm/px and
at 0.5 (of the first seed also on the validation slides), and over metastases and the benign inclusions that look like
them alone, told apart only by what is farther away. What is finished is not done again, so that the command can be
stopped and repeated. --jobs of them run at a time, each on its share of the cores: on two cores two are through sooner
than one after the other. More than an hour there.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from phantom_ablation import REPOSITORY, bundle

from common.data import datalist_from_camelyon16
from common.evaluation.comparison import compare_runs
from common.evaluation.froc import lesion_froc
from common.phantom import LYMPH_NODE, write_camelyon16
from common.reports.roc import Curve, plot_curves, read_curve

MRN = REPOSITORY / "bundles" / "pathology_mrn_segmentation"
OVERLAY = Path(__file__).with_suffix(".yaml")
# Title and overlay.
NETWORKS = {
    "MRN-bilinear": None,
    "MRN-transposed": "mrn_transposed",
    "U-Net 0.5": "unet_0.5",
    "U-Net 1": "unet_1",
    "U-Net 2": "unet_2",
    "U-Net 4": "unet_4",
}
COARSE = ("U-Net 1", "U-Net 2", "U-Net 4")
# Trained after the others, one seed: each of its encoders begins as that of the U-Net of its µm/px.
BEGUN = "MRN-bilinear begun as U-Nets"
OVERLAYS = {**NETWORKS, BEGUN: None}


def named(title: str) -> str:
    """A network's folder."""
    return title.replace(" ", "_")


def runs_of(title: str, folder: Path) -> list[Path]:
    """A network's folders, by seed."""
    return sorted(folder.glob(f"{named(title)}_[0-9]*"), key=lambda path: int(path.name.split("_")[-1]))


def mean_curve(folders: list[Path]) -> Curve:
    """True positive rate averaged over seeds, at equal false positive rates; and the mean area."""
    curves = [read_curve(folder)[1] for folder in folders]
    rates = np.concatenate([[0.0], np.geomspace(1e-5, 1, 2000)])
    true = np.mean([np.interp(rates, curve.false_positives, curve.true_positives) for curve in curves], axis=0)
    return Curve(rates, true, float(np.mean([curve.area for curve in curves])))


def laid(title: str) -> list[str]:
    """Configs over the bundle's own."""
    return ["small.yaml", str(OVERLAY), *([f"ablations/{OVERLAYS[title]}.yaml"] if OVERLAYS[title] else [])]


def measure(title: str, seed: int, epochs: int, threads: int, data: Path, folder: Path) -> dict:
    """Train and score one network; what was found is kept in ``result.json``."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    overlay = laid(title)
    same = {"cache_dir": data / "patch_index"}
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if not (folder / "model.pt").exists():
        # Validated once, at the end: no network's checkpoint is picked by luck.
        budget: dict = {"seed": seed, "epochs": epochs, "val_interval": epochs}
        if title == BEGUN:
            unets = ("U-Net 0.5", *COARSE)
            paths = {view: str(folder.parent / f"{named(unet)}_{seed}" / "model.pt") for view, unet in enumerate(unets)}
            budget["encoder_weights"] = paths
        files = {"datalist": data / "datalist.json", "checkpoint_dir": folder, "output_dir": folder / "train"}
        files["checkpoint_name"] = "model.pt"
        bundle(["train.yaml", *overlay], MRN, env, **same, **budget, **files)
    at_target = [*overlay, *(["ablations/at_target_mpp.yaml"] if title in COARSE else [])]
    scored = {
        "testing": (at_target, "datalist.json", "testing"),
        "look_alikes": (at_target, "look_alikes.json", "testing"),
    }
    if title in COARSE:
        scored["own"] = (overlay, "datalist.json", "testing")
    if seed == 0:
        scored["validation"] = (at_target, "datalist.json", "validation")
    areas = {}
    for name, (configs, datalist, section) in scored.items():
        options = {"datalist": data / datalist, "section": section, "elsewhere": False}
        files = {"checkpoint": folder / "model.pt", "output_dir": folder / name}
        bundle(["train.yaml", "evaluate.yaml", *configs], MRN, env, **same, **options, **files)
        areas[name] = json.loads((folder / name / "roc.json").read_text())["pooled"]
    found = {
        "network": title,
        "seed": seed,
        "epochs": epochs,
        "testing": areas["testing"]["auc"],
        "testing at its own µm/px": areas.get("own", areas["testing"])["auc"],
        "validation": areas["validation"]["auc"] if seed == 0 else None,
        "metastases against look-alikes": areas["look_alikes"]["auc"],
        **{figure: areas["testing"][figure] for figure in ("sensitivity", "specificity", "dice")},
    }
    result.write_text(json.dumps(found, indent=2))
    return found


def segment(title: str, data: Path, folder: Path) -> None:
    """Whole testing slides, with probabilities."""
    overlay = laid(title)
    files = {"slides": data / "datalist.json", "checkpoint": folder / "model.pt", "output_dir": folder / "slides"}
    outputs = ["prediction.tif", "probabilities.zarr", "summary.json"]
    bundle(["inference.yaml", *overlay], MRN, **files, outputs=outputs)


def main() -> None:
    """Run what is missing, then print and write the table, the curves and the panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/mrn_ablation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    data = folder / "camelyon16"
    if not (data / "datalist.json").exists():
        write_camelyon16(data, normal=6, tumour=8, testing=4, size=6144, seed=500, labels=True)
        datalist_from_camelyon16(data, data / "datalist.json")
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    rows = []
    for titles, seeds in ((list(NETWORKS), arguments.seeds), ([BEGUN], 1)):
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = [
                pool.submit(measure, title, seed, arguments.epochs, threads, data, folder / f"{named(title)}_{seed}")
                for seed in range(seeds)
                for title in titles
            ]
            rows += [run.result() for run in runs]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "ablation.csv", index=False)
    numbers = table.drop(columns=["seed", "epochs"]).groupby("network", sort=False).agg(["mean", "std"])
    print(numbers.round(4).T.to_string())
    for name in ("testing", "look_alikes"):
        curves = {title: mean_curve([run / name for run in runs_of(title, folder)]) for title in NETWORKS}
        plot_curves(folder / f"roc_{name}.png", curves)
    last = {title: runs_of(title, folder)[-1] for title in NETWORKS}
    for title, path in last.items():
        segment(title, data, path)
    slides = {title: path / "slides" for title, path in last.items()}
    compare_runs(slides, data / "datalist.json", LYMPH_NODE.scheme, folder / "panels")
    lesions = lesion_froc(
        slides, data / "datalist.json", LYMPH_NODE.scheme, folder / "froc", nms_box=160.0, itc_diameter=0
    )
    print(lesions.round(3).to_string(index=False))
    print(f"{folder / 'ablation.csv'}, curves in {folder}, pictures of the last seed in {folder / 'panels'}")


if __name__ == "__main__":
    main()

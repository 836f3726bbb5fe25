"""Compare the engine's contexts: labels, accuracy, speed.

    python tests/benchmarks/contexts.py [OUTPUT] [--real FOLDER] [--mrn FOLDER]

The demonstration network on a synthetic slide of a seed outside its training; with FOLDER of a run of real_tissue.py,
that run's network on the test region; with FOLDER of a run of mrn_ablation.py, its last MRN-transposed on a slide with
metastases. Per context: share of labels equal to per_patch's, mean IoU over the label map, label changes along the
seams of targets over those elsewhere, and speed relative to per_patch in the same run. Pictures of where they disagree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from monai.bundle import ConfigParser
from mrn_ablation import OVERLAY as MRN_OVERLAY
from phantom_ablation import REPOSITORY, bundle
from real_tissue import OVERLAY

from common.classes import ClassScheme
from common.data import load_datalist
from common.data.store import SlideStore
from common.evaluation.slide import score_slide
from common.inference.options import CONTEXTS
from common.metrics.segmentation import scores, seam_ratio
from common.outputs.overlay import blend
from common.outputs.panels import panels
from common.phantom import BREAST, LYMPH_NODE, write_phantoms
from common.slides import Slide

MRN = REPOSITORY / "bundles" / "pathology_mrn_segmentation"
TARGET = 256
# Pixels a side of the part that the picture shows.
SHOWN = 512


def measure(
    item: Mapping, scheme: ClassScheme, overlays: Sequence[str], folder: Path, **overrides: object
) -> pd.DataFrame:
    """One slide with every context."""
    store = SlideStore(scheme)
    slide, truth = store.slide(item), store.labels(item)
    rows, maps = [], {}
    for context in CONTEXTS:
        arguments = {"slides": item["image"], "output_dir": folder / context, "context": context, "overwrite": True}
        bundle(["inference.yaml", *overlays], outputs=["prediction.tif", "summary.json"], **arguments, **overrides)
        prediction = next((folder / context).glob("*/prediction.tif"))
        maps[context] = tifffile.imread(prediction, level=0)
        summary = json.loads(prediction.with_name("summary.json").read_text())
        found = scores(score_slide(slide, prediction, truth, scheme), scheme.names)
        rows.append(
            {
                "context": context,
                "equal labels": float((maps[context] == maps["per_patch"]).mean()),
                "mean IoU": found["mean_iou"],
                **{f"IoU {name}": row["iou"] for name, row in found["classes"].items()},
                "seams": seam_ratio(maps[context], TARGET),
                "speed": rows[0]["seconds"] / summary["seconds"]["segmentation"] if rows else 1.0,
                "seconds": summary["seconds"]["segmentation"],
            }
        )
    picture(slide, maps, scheme, folder / "disagreement.jpg")
    return pd.DataFrame(rows).drop(columns="seconds")


def picture(slide: Slide, maps: Mapping[str, np.ndarray], scheme: ClassScheme, path: Path) -> None:
    """The part of the slide where contexts disagree most: tissue, each context, and (black) where it differs."""
    differs = np.zeros(maps["per_patch"].shape, dtype=bool)
    for labels in maps.values():
        differs |= labels != maps["per_patch"]
    tops, lefts = (range(0, max(1, side - SHOWN + 1), TARGET) for side in differs.shape)
    top, left = max(
        ((top, left) for top in tops for left in lefts),
        key=lambda at: int(differs[at[0] : at[0] + SHOWN, at[1] : at[1] + SHOWN].sum()),
    )
    part = (slice(top, top + SHOWN), slice(left, left + SHOWN))
    height, width = differs[part].shape
    pixel = slide.shape[0] / differs.shape[0]
    center = ((top + height / 2) * pixel, (left + width / 2) * pixel)
    tissue = slide.read(center, slide.mpp * pixel, (height, width), level_tolerance=0)
    pictures = {"slide": tissue}
    for context, labels in maps.items():
        unequal = labels[part] != maps["per_patch"][part]
        title = f"{context} (dark: other than per_patch)" if unequal.any() else context
        pictures[title] = blend(tissue, labels[part], scheme)
        pictures[title][unequal] //= 4
    panels(pictures, scheme).save(path, quality=88)


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/contexts")
    parser.add_argument("--real", help="output folder of real_tissue.py")
    parser.add_argument("--mrn", help="output folder of mrn_ablation.py")
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    datalist = folder / "data" / "datalist.json"
    if not datalist.exists():
        write_phantoms(datalist.parent, training=0, validation=0, testing=1, size=8192, seed=2001)
    cases = {"phantom": (datalist, BREAST.scheme, ["demo.yaml"], {})}
    if arguments.real:
        run = Path(arguments.real).absolute()
        config = ConfigParser()
        config.read_config(str(OVERLAY))
        overrides = {"checkpoint": run / "model.pt"}
        scheme, overlays = config.get_parsed_content("scheme"), ["demo.yaml", str(OVERLAY)]
        cases["bcss_tumour"] = (run / "datalist.json", scheme, overlays, overrides)
    if arguments.mrn:
        run = Path(arguments.mrn).absolute()
        overrides = {"root": MRN, "checkpoint": max(run.glob("MRN-transposed_*")) / "model.pt", "tissue": False}
        overlays = ["small.yaml", str(MRN_OVERLAY), "ablations/mrn_transposed.yaml"]
        cases["lymph_node"] = (run / "camelyon16" / "datalist.json", LYMPH_NODE.scheme, overlays, overrides)
    for name, (path, scheme, overlays, overrides) in cases.items():
        table = measure(load_datalist(path, "testing")[0], scheme, overlays, folder / name, **overrides)
        table.to_csv(folder / f"{name}.csv", index=False)
        print(f"\n{name}\n{table.round(4).to_string(index=False)}\n{folder / name / 'disagreement.jpg'}")


if __name__ == "__main__":
    main()

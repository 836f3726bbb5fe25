"""The demonstration: a phantom, or one's own slide, through the DMMN bundle's demo checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .annotations import read_annotations
from .comparison import write_panels
from .evaluation import score_slide
from .files import write_json
from .phantom import BREAST, write_phantom
from .reports import ScoreReport
from .slides import open_slide

BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "pathology_dmmn_segmentation"
# In no training set: the demo checkpoint's slides have seeds from 100.
_SEED = 1001
_SIZE = 6144
_UNET = "ablations/demo_unet.yaml"
_NETWORKS = {"dmmn_m3": "DMMN-M3", "unet": "U-Net"}


def demo(slide: str | None = None, mpp: float | None = None, output: str = "output/demo") -> None:
    """Segment a slide with the demo checkpoint; without one, make a phantom, segment it and score it.

    Args:
        slide: one's own slide. The demo checkpoint was trained on synthetic slides: on real tissue it shows that the
            way through works, not what a trained network can do.
        mpp: µm per pixel of the slide, in place of what the file says.
        output: folder for everything that is made.
    """
    folder = Path(output)
    if slide is not None:
        _segment(slide, folder, mpp=mpp)
        print(
            f"\nDone. Look at {folder / open_slide(slide, mpp=mpp).name / 'overlay.png'}; QuPath opens "
            f"prediction.geojson."
        )
        return
    started = time.monotonic()
    print(f"Painting a phantom of {_SIZE} x {_SIZE} pixels at 0.5 µm/px (seed {_SEED}) …")
    files = write_phantom(folder, "phantom", _SEED, (_SIZE, _SIZE))
    print("Segmenting it with the narrow DMMN-M3 and, beside it, a U-Net of as many parameters and training patches …")
    _segment(str(files.slide), folder / "dmmn_m3")
    _segment(str(files.slide), folder / "unet", overlay=_UNET)
    found = {}
    with open_slide(files.slide) as opened:
        truth = read_annotations(files.labels, BREAST.scheme)
        shown = {"partial annotation": read_annotations(files.geojson, BREAST.scheme), "truth": truth}
        for name, title in _NETWORKS.items():
            prediction = folder / name / "phantom" / "prediction.tif"
            report = ScoreReport(
                BREAST.scheme,
                score_slide(opened, prediction, truth, BREAST.scheme)[None],
                [{"image": str(files.slide)}],
            )
            found[name] = report.write(folder / name / "scores")
            shown[title] = read_annotations(prediction, BREAST.scheme)
        write_panels(folder / "comparison.png", opened, shown, BREAST.scheme)
    print("Measuring what DMMN-M3 loses when its coarse views come from elsewhere on the slide …")
    reliance = _context_reliance(files.slide, files.labels, folder)
    _report(folder, found, reliance, time.monotonic() - started)


def _segment(slide: str, output: Path, mpp: float | None = None, overlay: str | None = None) -> None:
    arguments = ["--slides", str(Path(slide).absolute()), "--output_dir", str(output.absolute()), "--overwrite", "True"]
    if mpp is not None:
        arguments += ["--mpp", str(mpp)]
    _bundle(["inference.yaml", "demo.yaml", *([overlay] if overlay else [])], arguments)


def _context_reliance(slide: Path, labels: Path, folder: Path) -> dict[str, float]:
    datalist = folder / "datalist.json"
    write_json(datalist, {"testing": [{"image": slide.name, "label": labels.name}]})
    output = folder / "dmmn_m3" / "context"
    arguments = ["--datalist", str(datalist.absolute()), "--output_dir", str(output.absolute())]
    _bundle(["train.yaml", "evaluate.yaml", "demo.yaml"], arguments)
    return json.loads((output / "scores.json").read_text(encoding="utf-8"))["context_reliance"]


def _bundle(configs: Sequence[str], arguments: Sequence[str]) -> None:
    files = [str(BUNDLE / "configs" / name) for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(BUNDLE)]
    # MONAI warns at every run that configurations are code; these are the project's own.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::UserWarning"}
    result = subprocess.run([*command, *arguments], env=environment, check=False)
    if result.returncode:
        raise SystemExit(result.returncode)


def _report(folder: Path, found: dict[str, Any], reliance: dict[str, float], seconds: float) -> None:
    print(f"\n{'class':<20}{'IoU DMMN-M3':>14}{'IoU U-Net':>12}")
    for name in BREAST.scheme.names:
        row = [found[network]["classes"][name]["iou"] for network in ("dmmn_m3", "unet")]
        print(f"{name:<20}{row[0]:>14.3f}{row[1]:>12.3f}")
    print(f"{'mean':<20}{found['dmmn_m3']['mean_iou']:>14.3f}{found['unet']['mean_iou']:>12.3f}")
    for views, lost in reliance.items():
        print(f"mean IoU that DMMN-M3 loses when {views} come(s) from elsewhere: {lost:.3f}")
    print(f"\nDone in {seconds:.0f} s. Where to look:")
    for path, what in (
        ("comparison.png", "slide, annotation, truth and both predictions side by side"),
        ("dmmn_m3/phantom/overlay.png", "classes over tissue"),
        ("dmmn_m3/scores/confusion.png", "confusion matrix"),
        ("dmmn_m3/phantom/prediction.tif", "label map for QuPath, OpenSlide, tifffile"),
        ("dmmn_m3/phantom/prediction.geojson", "polygons for QuPath"),
    ):
        print(f"  {folder / path!s:<55}{what}")

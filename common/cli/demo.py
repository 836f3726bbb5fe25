"""The demonstration: segment a phantom, or a user's slide, with the DMMN bundle's demo checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..annotations import read_annotations
from ..bundle.find import find_bundle
from ..bundle.keys import config_files
from ..bundle.run import run_configs
from ..data import output_name
from ..evaluation.comparison import write_panels
from ..evaluation.slide import score_slide
from ..files import write_json
from ..phantom import BREAST, write_phantom
from ..reports.scores import ScoreReport
from ..slides import open_entry, open_slide

_BUNDLE = "pathology_dmmn_segmentation"
# In no training set: the demo checkpoint's slides have seeds from 100.
_SEED = 1001
_SIZE = 5120
_UNET = "ablations/demo_unet.yaml"
_NETWORKS = {"dmmn_m3": "DMMN-M3", "unet": "U-Net"}


def demo(
    slide: str | None = None, mpp: float | None = None, output: str = "output/demo", series: int | None = None
) -> None:
    """Segment a slide with the demo checkpoint; without a slide, make a phantom, segment it and score it.

    Args:
        slide: your own slide. The demo checkpoint was trained on synthetic slides: on real tissue it shows how the tool
            works, not what the tissue is.
        mpp: µm/px of the slide, instead of the file's.
        output: folder for all results.
        series: number of the image, in a slide file of several, from 0.
    """
    folder = Path(output)
    if slide is not None:
        given = {name: value for name, value in (("mpp", mpp), ("series", series)) if value is not None}
        entry = {"image": slide, **given}
        open_entry(entry).close()
        name = output_name(entry)
        _segment(slide, folder, given)
        print(f"\nDone. Look at {folder / name / 'overlay.png'}; QuPath opens {folder / name / 'prediction.geojson'}.")
        return
    started = time.monotonic()
    print(f"1/4 Painting a synthetic slide of {_SIZE} x {_SIZE} pixels at 0.5 µm/px", flush=True)
    files = write_phantom(folder, "phantom", _SEED, (_SIZE, _SIZE))
    print("2/4 Segmenting it with DMMN-M3, which sees a millimetre, and a U-Net of the same size", flush=True)
    _segment(str(files.slide), folder / "dmmn_m3")
    _segment(str(files.slide), folder / "unet", overlay=_UNET)
    print("3/4 Scoring both against the truth", flush=True)
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
    print("4/4 Measuring how much DMMN-M3 relies on its context", flush=True)
    reliance = _context_reliance(files.slide, files.labels, folder)
    _report(folder, found, reliance, time.monotonic() - started)


def _segment(slide: str, output: Path, given: Mapping[str, Any] | None = None, overlay: str | None = None) -> None:
    configs = ["inference.yaml", "demo.yaml", *([overlay] if overlay else [])]
    _run(configs, {"slides": slide, "output_dir": str(output), "overwrite": True, **(given or {})})


def _context_reliance(slide: Path, labels: Path, folder: Path) -> dict[str, float]:
    datalist = folder / "datalist.json"
    write_json(datalist, {"testing": [{"image": slide.name, "label": labels.name}]})
    output = folder / "dmmn_m3" / "context"
    _run(["train.yaml", "evaluate.yaml", "demo.yaml"], {"datalist": str(datalist), "output_dir": str(output)})
    return json.loads((output / "scores.json").read_text(encoding="utf-8"))["context_reliance"]


def _run(configs: Sequence[str], settings: Mapping[str, Any]) -> None:
    bundle = find_bundle(_BUNDLE)
    with _warnings_only():
        run_configs(bundle, config_files(bundle, configs), settings)


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Show no information logged by runs: progress bars and the demonstration's own lines are enough."""
    ours = logging.getLogger(__name__.partition(".")[0])
    level = ours.level
    ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.setLevel(level)


def _report(folder: Path, found: dict[str, Any], reliance: dict[str, float], seconds: float) -> None:
    print(f"\n{'class':<20}{'IoU DMMN-M3':>14}{'IoU U-Net':>12}")
    for name in BREAST.scheme.names:
        row = [found[network]["classes"][name]["iou"] for network in ("dmmn_m3", "unet")]
        print(f"{name:<20}{_score(row[0]):>14}{_score(row[1]):>12}")
    print(f"{'mean':<20}{found['dmmn_m3']['mean_iou']:>14.3f}{found['unet']['mean_iou']:>12.3f}")
    for views, lost in reliance.items():
        print(f"mean IoU that DMMN-M3 loses with {views} from elsewhere on the slide: {lost:.3f}")
    print(f"\nDone in {seconds:.0f} s. Where to look:")
    for path, what in (
        ("comparison.png", "slide, annotation, truth and both predictions side by side"),
        ("dmmn_m3/phantom/overlay.png", "classes over tissue"),
        ("dmmn_m3/scores/confusion.png", "confusion matrix"),
        ("dmmn_m3/phantom/prediction.tif", "label map for QuPath, OpenSlide, tifffile"),
        ("dmmn_m3/phantom/prediction.geojson", "polygons for QuPath"),
    ):
        print(f"  {folder / path!s:<55}{what}")


def _score(iou: float | None) -> str:
    return "-" if iou is None else f"{iou:.3f}"

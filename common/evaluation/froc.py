"""Score the detection of lesions on segmented slides by free-response ROC, as CAMELYON16 does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from monai.apps.pathology.metrics import LesionFROC
from monai.metrics import compute_froc_curve_data, compute_froc_score
from tqdm import tqdm

from ..classes import ClassScheme
from ..data import SlideStore, load_datalist, output_name
from ..files import write_json
from ..outputs.ome_zarr import read_probability
from ..reports.scores import write_table

# CAMELYON16's: false positives per slide at which sensitivity is averaged.
RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def lesion_froc(
    runs: Mapping[str, str | Path],
    datalist: str | Path,
    scheme: ClassScheme,
    out: str | Path,
    section: str = "testing",
    mpp: float = 8.0,
    nms_box: float = 384.0,
    probability: float = 0.5,
    itc_diameter: int = 200,
    merge_distance: int = 75,
    name_by: str | None = None,
) -> pd.DataFrame:
    """Score the detection of lesions on whole slides with MONAI's :class:`LesionFROC`.

    The places of highest probability are detections, strongest first, none in the box around another (non-maximum
    suppression). Lesions nearer to each other than ``merge_distance`` are one. Isolated tumour cells, lesions that then
    measure less than ``itc_diameter`` more than ``merge_distance``, count neither for nor against.

    Args:
        runs: title -> output folder of inference.yaml with ``<slide name>/probabilities.zarr``.
        datalist: slides and their annotations, which must be exhaustive.
        scheme: the classes, of a sigmoid.
        out: folder for ``froc.csv`` and ``froc.json``.
        section: section of the datalist.
        mpp: µm/px at which maps are compared (the challenge: level 5, about 8).
        nms_box: side in µm of the box around a detection that holds no other.
        probability: lowest probability of a detection.
        itc_diameter: largest diameter in µm of isolated tumour cells.
        merge_distance: distance in µm over which lesions are joined and filled (five tumour cells).
        name_by: column that named the runs' folders; see :class:`SlideDataset`.

    Returns:
        one row per run: the score (mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives per slide) and each of
        these sensitivities.

    Raises:
        ValueError: probabilities are missing, or no slide has a lesion to be found.
    """
    items, out = load_datalist(datalist, section), Path(out)
    store = SlideStore(scheme)
    rows, curves = [], {}
    for title, folder in runs.items():
        found = []
        for item in tqdm(items, desc=f"detections of {title}", unit="slide", delay=2, leave=False):
            with tempfile.TemporaryDirectory() as scratch:
                maps = Path(folder) / output_name(item, name_by) / "probabilities.zarr"
                sample = _sample(maps, item, store, scheme, mpp, Path(scratch) / "slide")
                scorer = LesionFROC(
                    [sample],
                    grow_distance=merge_distance,
                    itc_diameter=itc_diameter,
                    nms_prob_threshold=probability,
                    nms_box_size=max(1, round(nms_box / sample["pixel_spacing"])),
                    image_reader_name="TiffFile",
                )
                # MONAI shows a progress bar for every call, which here is for a single slide.
                with redirect_stderr(StringIO()):
                    found.append(scorer.compute_fp_tp()[:3])
        curves[title] = _curve(found)
        rows.append({"network": title, **curves[title]["figures"]})
    write_json(out / "froc.json", curves)
    table = pd.DataFrame(rows)
    write_table(out / "froc.csv", table)
    return table


def _sample(
    maps: Path, item: Mapping[str, Any], store: SlideStore, scheme: ClassScheme, mpp: float, scratch: Path
) -> dict[str, Any]:
    """Write the files that :class:`LesionFROC` reads, a probability map and a mask on the same pixels; return its
    entry."""
    values, spacing = read_probability(maps, scheme.positive.name, mpp)
    slide = store.slide(item)
    height, width = values.shape
    down, across = slide.level0_pixels(spacing)
    # If a pyramid leaves out its last odd row or column, the map is a little smaller than the slide.
    truth = store.labels(item).label_map(slide, (height / 2 * down, width / 2 * across), spacing, (height, width))
    np.save(scratch.with_suffix(".npy"), values)
    mask = (truth == scheme.positive.label).astype(np.uint8)
    tifffile.imwrite(scratch.with_suffix(".tif"), np.repeat(mask[..., None], 3, axis=2), photometric="rgb")
    return {
        "prob_map": str(scratch.with_suffix(".npy")),
        "tumor_mask": str(scratch.with_suffix(".tif")),
        "level": 0,
        "pixel_spacing": spacing,
    }


def _curve(found: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> dict[str, Any]:
    """Return the curve of all slides.

    Args:
        found: for each slide, the probabilities of its false and of its true detections, and its number of lesions.
    """
    lesions = sum(int(number) for _, _, number in found)
    if not lesions:
        raise ValueError("no lesion to be found: no slide has any, or all are smaller than itc_diameter")
    false_positives = np.concatenate([false for false, _, _ in found])
    # MONAI drops the lowest probability, taking it for the 0 of a missed lesion. If none was missed, it would drop a
    # detection.
    true_positives = np.concatenate([*(true for _, true, _ in found), [0.0]])
    per_slide, sensitivity = compute_froc_curve_data(false_positives, true_positives, lesions, len(found))
    at: Sequence[float] = np.interp(RATES, per_slide[::-1], sensitivity[::-1]).tolist()
    score = float(compute_froc_score(per_slide, sensitivity, RATES))
    sensitivities = {f"sensitivity at {rate:g}": value for rate, value in zip(RATES, at, strict=True)}
    return {
        "figures": {"FROC score": score, **sensitivities},
        "lesions": lesions,
        "slides": len(found),
        "false_positives_per_slide": per_slide.tolist(),
        "sensitivity": sensitivity.tolist(),
    }

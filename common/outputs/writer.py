"""The files of a slide, written from its finished maps."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classes import ClassScheme
from ..files import write_json
from ..slides import Slide
from .blocks import label_areas
from .confidence import write_confidence
from .dicom import check_dicom, write_dicom
from .nifti import check_nifti, write_nifti
from .ome_zarr import write_probabilities
from .overlay import write_overlay
from .polygon_file import write_polygons
from .polygon_options import PolygonOptions
from .pyramid import TILE, write_grey_pyramid, write_label_pyramid

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

logger = logging.getLogger(__name__)
SUMMARY, POLYGONS = "summary.json", "prediction.geojson"
OUTPUTS = (
    "prediction.tif",
    POLYGONS,
    "overlay.png",
    SUMMARY,
    "prediction.nii.gz",
    "prediction.dcm",
    "entropy.tif",
    "probabilities.zarr",
    "confidence.png",
)
_ENTROPY = "entropy of the class probabilities as a share of its maximum (all classes equally probable), 255 for 1"
_NEEDS = {"entropy.tif": "entropy", "probabilities.zarr": "probabilities", "confidence.png": "probabilities"}


def maps_for(outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the maps that these outputs are made of."""
    return ("labels", *dict.fromkeys(name for output, name in _NEEDS.items() if output in outputs))


def check_outputs(
    folder: Path, outputs: Sequence[str], shape: tuple[int, int], slide: Slide, polygons: PolygonOptions
) -> None:
    """Check, before hours of work, that these outputs can be made of a label map of this shape.

    Raises:
        OutputError: a format cannot hold the map.
        SlideError: polygons are to count from the slide's bounds, and these are impossible.
    """
    if POLYGONS in outputs:
        slide.frame(polygons.origin)
    if "prediction.nii.gz" in outputs:
        check_nifti(folder / "prediction.nii.gz", shape)
    if "prediction.dcm" in outputs:
        check_dicom(folder / "prediction.dcm", shape)


def write_outputs(
    folder: Path,
    outputs: tuple[str, ...],
    slide: Slide,
    stores: Mapping[str, MapStore],
    grid: TileGrid,
    scheme: ClassScheme,
    record: dict[str, Any],
    polygons: PolygonOptions | None = None,
    kept: Path | None = None,
) -> dict[str, Any]:
    """Write outputs of one slide, each atomically, and last the summary, which certifies them. Return the summary.

    Args:
        folder: folder to write to.
        outputs: names out of :data:`OUTPUTS`.
        slide: the slide.
        stores: its maps by name, at least ``"labels"``.
        grid: their tile grid on the slide.
        scheme: the classes.
        record: further entries of the summary: method, settings, seconds and provenance. Its ``weights_note``, if there
            is one, is also written below the overlay.
        polygons: how polygons are made.
        kept: folder of earlier outputs that the new ones are added to; the summary describes both.

    Raises:
        SlideChangedError: the slide is no longer the file that was opened.
    """
    started = time.monotonic()
    store = stores["labels"]
    mpp = record["target"]["mpp"]
    if "prediction.tif" in outputs:
        write_label_pyramid(folder / "prediction.tif", store.bands(TILE), store.shape, mpp, scheme)
    outlined = None if kept is None else _earlier_polygons(kept)
    if POLYGONS in outputs:
        options = polygons or PolygonOptions()
        corner = slide.frame(options.origin)[:2]
        outlined = write_polygons(folder / POLYGONS, store, grid, mpp, scheme, options, corner)
        _log_origin(slide, options)
    if "overlay.png" in outputs:
        write_overlay(folder / "overlay.png", slide, store, grid, scheme, record.get("weights_note"))
    if "prediction.nii.gz" in outputs:
        write_nifti(folder / "prediction.nii.gz", store, mpp)
    if "prediction.dcm" in outputs:
        write_dicom(folder / "prediction.dcm", slide, store, mpp, scheme, json.dumps(record["settings"]))
    if "entropy.tif" in outputs:
        entropy = stores["entropy"]
        write_grey_pyramid(folder / "entropy.tif", entropy.bands(TILE), entropy.shape, mpp, _ENTROPY)
    if "probabilities.zarr" in outputs:
        write_probabilities(folder / "probabilities.zarr", stores["probabilities"], mpp, scheme)
    if "confidence.png" in outputs:
        write_confidence(folder / "confidence.png", slide, stores["probabilities"], grid, scheme)
    # The overlay and others have read the slide again.
    slide.check_unchanged()
    summary = _summary(slide, store, grid, scheme, mpp, outlined, record)
    summary["seconds"]["outputs"] = round(time.monotonic() - started, 2)
    # They reveal a file that is cut off later, as by a failing disk or copy.
    summary["bytes"] = _sizes([folder] if kept is None else [folder, kept])
    write_json(folder / SUMMARY, summary)
    return summary


def _sizes(folders: Sequence[Path]) -> dict[str, int]:
    """Return the bytes of each output that is one file, in the first folder that has it."""
    places = {name: [folder / name for folder in folders if (folder / name).is_file()] for name in OUTPUTS}
    return {name: paths[0].stat().st_size for name, paths in places.items() if paths and name != SUMMARY}


def _log_origin(slide: Slide, options: PolygonOptions) -> None:
    """Log that QuPath would show the polygons in the wrong place, if it crops the slide and they do not."""
    bounds = slide.bounds
    if bounds is not None and any(bounds[:2]) and options.origin == "slide":
        logger.info(
            "%s: polygons count from the slide's corner, QuPath from its bounds' (row %d, column %d). To drag them "
            "there, run with --polygons \"{'origin': 'bounds'}\"",
            slide.path.name,
            bounds.top,
            bounds.left,
        )


def _earlier_polygons(folder: Path) -> dict[str, Any] | None:
    """Return the summary's entry of polygons that an earlier run wrote and this one adds other outputs to."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary.get("polygons") if (folder / POLYGONS).exists() else None


def _summary(
    slide: Slide,
    store: MapStore,
    grid: TileGrid,
    scheme: ClassScheme,
    mpp: float,
    polygons: dict[str, Any] | None,
    record: dict[str, Any],
) -> dict[str, Any]:
    areas = label_areas(store, grid)
    predicted = areas[1:].sum()
    square_mm = (mpp / 1000) ** 2
    return {
        "slide": {
            "file": slide.path.name,
            "shape": list(slide.shape),
            "mpp": slide.mpp,
            "backend": slide.backend,
            **({} if slide.series is None else {"series": slide.series}),
        },
        "label_map": {"shape": list(store.shape), "mpp": mpp},
        "classes": {
            tissue_class.name: {
                "area_mm2": round(float(areas[tissue_class.label] * square_mm), 6),
                "share": round(float(areas[tissue_class.label] / predicted), 6) if predicted else None,
            }
            for tissue_class in scheme.classes
        },
        "not_predicted_share": round(float(areas[0] / areas.sum()), 6),
        **({} if polygons is None else {"polygons": polygons}),
        **record,
    }

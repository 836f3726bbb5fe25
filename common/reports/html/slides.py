"""Collect what the page shows of a segmented slide."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from ...classes import hex_color
from ...outputs.overlay import read_at_map
from ...slides import SlideError, open_entry, slide_state

logger = logging.getLogger(__name__)

SUMMARY, _MAP, _OVERLAY = "summary.json", "prediction.tif", "overlay.png"


@dataclass(frozen=True)
class SlideView:
    """A slide on the page.

    Attributes:
        name: its folder below the run's.
        summary: content of its ``summary.json``.
        tissue: data URI of the slide's picture; of the overlay if the slide is not available.
        labels: data URI of a grey picture whose values are labels, to be coloured on the page; None with an overlay.
        size: width and height of the pictures.
        note: remark for the reader on the pictures.
    """

    name: str
    summary: Mapping[str, Any]
    tissue: str | None
    labels: str | None
    size: tuple[int, int]
    note: str = ""
    classes: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Name, colour, area and share of each class."""
        colors = {one["name"]: hex_color(one["color"]) for one in self.classes}
        return [
            {"name": name, "color": colors.get(name, "#888888"), **row} for name, row in self.summary["classes"].items()
        ]

    @property
    def outlined(self) -> str:
        """Number of polygons, and the regions and classes that they leave out; empty if there are none."""
        polygons = self.summary.get("polygons")
        if polygons is None:
            return ""
        parts = [f"{polygons['written']:,} polygons in prediction.geojson"]
        small = sum(row["regions"] for row in polygons["merged"].values())
        if small:
            parts.append(
                f"{small:,} regions smaller than {polygons['min_area_um2']:g} µm² merged into their surroundings"
            )
        if polygons["left_out"]:
            parts.append(f"without {', '.join(polygons['left_out'])}")
        return f"{'; '.join(parts)}. The label map and the areas are exact."

    @property
    def weights_note(self) -> str:
        """Sentence on the slides that the weights were trained on."""
        return self.summary.get("weights_note") or "What the weights were trained on is not known."

    @property
    def synthetic(self) -> bool:
        """True if the weights were trained on synthetic slides only."""
        return bool((self.summary.get("weights") or {}).get("synthetic"))

    @property
    def areas(self) -> dict[str, float]:
        """mm² of each class."""
        return {name: row["area_mm2"] for name, row in self.summary["classes"].items()}

    @property
    def palette(self) -> dict[int, list[int]]:
        """Label -> colour, for the page's script."""
        return {one["label"]: list(one["color"]) for one in self.classes}


def slide_view(folder: Path, name: str, items: Mapping[str, Mapping[str, Any]], longest: int) -> SlideView:
    """Read a slide's output folder.

    Args:
        folder: folder with ``summary.json``.
        name: name of the slide on the page.
        items: datalist entries of slides by name; slides without an entry are shown by their overlay.
        longest: longest side of the pictures, in pixels.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    missing = [key for key in ("slide", "label_map", "classes", "settings") if key not in summary]
    if missing:
        raise ValueError(f"no summary of a segmented slide: without {missing[0]}")
    classes = summary["settings"].get("classes", ())
    item, note = items.get(folder.name), ""
    if item is not None and (folder / _MAP).is_file():
        try:
            tissue, labels = _layers(folder / _MAP, item, summary, longest)
            size = (labels.shape[1], labels.shape[0])
            return SlideView(name, summary, _jpeg(tissue), _png(labels), size, "", classes)
        except SlideError as error:
            note = f"The slide cannot be shown: {error}"
            logger.warning("%s: %s", folder.name, error)
    if (folder / _OVERLAY).is_file():
        with Image.open(folder / _OVERLAY) as picture:
            return SlideView(name, summary, file_uri(folder / _OVERLAY), None, picture.size, note, classes)
    note = note or f"No picture: this run wrote no {_OVERLAY}, and the slide was not given (--slides)."
    return SlideView(name, summary, None, None, (0, 0), note, classes)


def _layers(
    path: Path, item: Mapping[str, Any], summary: Mapping[str, Any], longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slide at the pixels of its label map, ``(h, w, 3)``, and the label map, ``(h, w)``."""
    labels, step = _thumbnail(path, longest)
    segmented = summary["settings"]["slide"]
    if slide_state(item["image"]).size != segmented["bytes"]:
        problem = f"it is not the file that was segmented ({segmented['bytes']:,} bytes)"
        raise SlideError(item["image"], problem, "Give the slide that was")
    with open_entry(item) as slide:
        mpp = summary["label_map"]["mpp"] * step
        return read_at_map(slide, mpp, slide.level0_pixels(mpp), labels.shape), labels


def _thumbnail(path: Path, longest: int) -> tuple[np.ndarray, int]:
    """Return the finest level of a label map that fits (else a thinned one), and its downsampling factor."""
    with tifffile.TiffFile(path) as file:
        shapes = [page.shape[:2] for page in file.pages]
        fitting = [number for number, shape in enumerate(shapes) if max(shape) <= longest]
        number = fitting[0] if fitting else len(shapes) - 1
        labels = file.pages[number].asarray()
    step = round(max(shapes[0]) / max(labels.shape))
    every = max(1, -(-max(labels.shape) // longest))
    return labels[::every, ::every], step * every


def file_uri(path: Path) -> str:
    """Return a picture's file as a data URI."""
    kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}[path.suffix.lower()]
    return _uri(path.read_bytes(), f"image/{kind}")


def _jpeg(image: np.ndarray) -> str:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=85)
    return _uri(written.getvalue(), "image/jpeg")


def _png(image: np.ndarray) -> str:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG", optimize=True)
    return _uri(written.getvalue(), "image/png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

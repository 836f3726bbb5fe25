"""Segment a region given in a viewer's coordinates, and return polygons in the same coordinates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..annotations import stated_origin
from ..data.origin import states_origin
from ..errors import UnreadableFileError
from ..inference import WholeSlideInferer
from ..slides import Slide, open_entry
from .polygons import annotation
from .request_values import RequestError

POLYGONS = "prediction.geojson"


class NotSegmentedError(Exception):
    """A region cannot be segmented; the message has the reason."""


def annotated_region(
    inferer: WholeSlideInferer, network: nn.Module, image: str, values: Mapping[str, Any], origin: str | None = None
) -> dict[str, Any]:
    """Segment a region of a slide, or all of it, and return outlines in the form that MONAI Label's writers take.

    Args:
        inferer: inferer that writes ``prediction.geojson``; its folder and regions are set here.
        network: the network.
        image: the slide's path.
        values: values of the request: ``location`` and ``size`` (``[x, y]``, ``[width, height]``, level-0 pixels; the
            whole slide without a size), ``mpp`` of slides that do not state theirs, ``series``, ``min_poly_area`` and
            ``origin``.
        origin: origin of the viewer's coordinates, if the request has none: see :func:`viewer_origin`.

    Raises:
        RequestError: the origin of positions on a slide with bounds is unknown.
        UnreadableFileError: the slide cannot be read.
        NotSegmentedError: the region cannot be segmented; the message has the reason.
    """
    item: dict[str, Any] = {"image": image, "mpp": values.get("mpp"), "name": "slide", "series": values.get("series")}
    with open_entry(item) as slide:
        viewer = viewer_origin(slide, values.get("origin", origin))
        frame, whole, bounds = slide.frame(viewer), slide.frame(), slide.bounds
    left, top = values.get("location", (0, 0))
    width, height = values.get("size", (0, 0))
    if width and height:
        item["regions"] = [[frame.top + top, frame.left + left, height, width]]
    with tempfile.TemporaryDirectory(prefix="multimag-") as folder:
        inferer.output_dir = Path(folder)
        inferer.only_regions = "regions" in item
        done: Any = inferer(item, network)
        if "error" in done:
            raise NotSegmentedError(str(done["error"]))
        written = Path(folder) / "slide" / POLYGONS
        least = values.get("min_poly_area", 0.0)
        # The origin that the file states: a bundle's own code and configs decide on it.
        there = bounds if bounds is not None and stated_origin(written) == "bounds" else whole
        return annotation(written, inferer.scheme, least, (frame.left - there.left, frame.top - there.top))


def viewer_origin(slide: Slide, declared: str | None) -> str:
    """Return the origin of a viewer's coordinates on a slide.

    Args:
        slide: the slide.
        declared: origin that the request or the server's start declares; None if neither does.

    Raises:
        RequestError: the slide has bounds and no origin is declared: some viewers crop it to them, others do not.
    """
    if declared is None and slide.bounds is not None and any(slide.bounds[:2]):
        raise RequestError(
            f"{slide.path.name} has bounds (from row {slide.bounds.top}, column {slide.bounds.left}), and nothing says "
            "from where the viewer counts. QuPath counts from them: start the server with --origin bounds, or with "
            "--origin slide for viewers that show all of the slide"
        )
    return declared or "slide"


def with_origin(item: Mapping[str, Any], declared: str | None) -> dict[str, Any]:
    """Return an entry to train on with the origin of its label, which was drawn in a viewer.

    Args:
        item: entry with ``image``, ``label`` and perhaps ``mpp``.
        declared: origin that the request or the server's start declares; None if neither does.

    Raises:
        RequestError: no origin is declared, and the slide has bounds.
    """
    if states_origin(item):
        return dict(item)
    try:
        with open_entry(item) as slide:
            return {**item, "origin": viewer_origin(slide, declared)}
    except UnreadableFileError:
        # Training reports the problem.
        return dict(item)

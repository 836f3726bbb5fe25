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
    """A region that cannot be segmented; says why."""


def annotated_region(
    inferer: WholeSlideInferer, network: nn.Module, image: str, values: Mapping[str, Any], origin: str | None = None
) -> dict[str, Any]:
    """Segment a region of a slide, or all of it, and return its outlines as MONAI Label's writers take them.

    Args:
        inferer: makes ``prediction.geojson``; its folder and regions are set here.
        network: the network.
        image: the slide's path.
        values: of the request: ``location`` and ``size`` (``[x, y]``, ``[width, height]``, level-0 pixels; all of the
            slide without a size), ``mpp`` of slides that do not say theirs, ``series``, ``min_poly_area`` and
            ``origin``.
        origin: from where the viewer counts, if the request does not say: see :func:`viewer_origin`.

    Raises:
        RequestError: nothing says from where positions on a slide with bounds count.
        UnreadableFileError: the slide cannot be read.
        NotSegmentedError: it cannot be segmented; says why.
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
        # By what the file says: a bundle's own code and configs decide from where it counts.
        there = bounds if bounds is not None and stated_origin(written) == "bounds" else whole
        return annotation(written, inferer.scheme, least, (frame.left - there.left, frame.top - there.top))


def viewer_origin(slide: Slide, said: str | None) -> str:
    """Return the origin that a viewer's positions on a slide count from.

    Args:
        slide: the slide.
        said: by the request or the server's start; None if they say nothing.

    Raises:
        RequestError: the slide has bounds and nothing is said: some viewers crop it to them, others do not.
    """
    if said is None and slide.bounds is not None and any(slide.bounds[:2]):
        raise RequestError(
            f"{slide.path.name} has bounds (from row {slide.bounds.top}, column {slide.bounds.left}), and nothing says "
            "from where the viewer counts. QuPath counts from them: start the server with --origin bounds, or with "
            "--origin slide for viewers that show all of the slide"
        )
    return said or "slide"


def with_origin(item: Mapping[str, Any], said: str | None) -> dict[str, Any]:
    """Return an entry to train on with the origin that its label, drawn in a viewer, counts from.

    Args:
        item: ``image``, ``label`` and ``mpp`` where it has one.
        said: by the request or the server's start.

    Raises:
        RequestError: nothing says it, and the slide has bounds.
    """
    if states_origin(item):
        return dict(item)
    try:
        with open_entry(item) as slide:
            return {**item, "origin": viewer_origin(slide, said)}
    except UnreadableFileError:
        # Training says what is wrong with it.
        return dict(item)

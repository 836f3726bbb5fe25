"""Read what the XML annotation files of all tools have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from shapely import Polygon

from .objects import UnusableObjectError
from .regions import AnnotationError

_ELLIPSE_POINTS = 180


def xml_root(path: Path) -> ElementTree.Element:
    """Return the document's root element, whose tag tells the tool.

    Raises:
        AnnotationError: the file is not XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise AnnotationError(path, f"not XML ({error})", "Export it again") from error


def numbers(values: Iterable[str | None]) -> list[float]:
    """Return attribute values as finite numbers.

    Raises:
        UnusableObjectError: a value is missing or not a number.
    """
    try:
        found = [float(value) for value in values]  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UnusableObjectError("a coordinate that is not a number") from error
    if not np.isfinite(found).all():
        raise UnusableObjectError("a coordinate that is not a number")
    return found


def ring(points: list[tuple[float, float]]) -> Polygon:
    """Return the area within ``(x, y)`` points; empty for fewer than three."""
    return Polygon(points) if len(points) >= 3 else Polygon()


def ellipse(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Return the ellipse that touches a rectangle's four sides."""
    angle = np.arange(_ELLIPSE_POINTS) * 2 * np.pi / _ELLIPSE_POINTS
    # A polygon through points on an ellipse is smaller than the ellipse. These points lie outside it by as much as the
    # polygon's sides lie inside.
    reach = (np.pi / _ELLIPSE_POINTS / (np.sin(2 * np.pi / _ELLIPSE_POINTS) / 2)) ** 0.5
    x = (left + right) / 2 + reach * (right - left) / 2 * np.cos(angle)
    y = (top + bottom) / 2 + reach * (bottom - top) / 2 * np.sin(angle)
    return Polygon(np.stack([x, y], axis=1)) if right > left and bottom > top else Polygon()


def bounds(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of ``(x, y)`` points."""
    return shapely.MultiPoint(points).bounds

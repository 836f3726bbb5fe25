"""Find focal planes and channels in scanners' own formats, of which OpenSlide silently shows one.

A stack of focal planes in a scanner's format is opened with a warning: the scanner names one plane as the slide's, the
one that a scan without a stack would have, and OpenSlide shows this plane. Channels are refused, as none of them is the
slide. So are the planes of a TIFF, whose header does not say which of them is in focus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import tifffile

from ..errors import SlideError

EXPORT_ONE = "Export one plane as a file of its own, as interleaved 8-bit RGB"
_NDPI_MAGNIFICATION, _NDPI_FOCAL_PLANE = 65421, 65424
_DICOM_PLANES = re.compile(r"TotalPixelMatrixFocalPlanes value (\d+)")


def planes_remark(path: Path, properties: Mapping[str, str]) -> str:
    """Return a remark on the focal plane that OpenSlide shows; nothing if there is only one.

    Args:
        path: the file.
        properties: its properties in OpenSlide.

    Raises:
        SlideError: the file has several channels.
    """
    _check_channels(path, properties)
    count = _COUNTS.get(properties.get("openslide.vendor", ""))
    if count is None:
        return ""
    try:
        planes, plane = count(path, properties)
    except Exception as error:  # tifffile fails on damaged tags in many ways
        return f"whether it has several focal planes cannot be told ({error}); one is read"
    if planes < 2:
        return ""
    return f"it has {planes} focal planes; {plane} is read, the others are not"


def dicom_planes(error: str) -> int | None:
    """Return the number of focal planes for which OpenSlide refuses a DICOM slide; None for any other error."""
    match = _DICOM_PLANES.search(error)
    return None if match is None else int(match[1])


def _check_channels(path: Path, properties: Mapping[str, str]) -> None:
    filters = len(_mirax_levels(properties, "Slide filter level"))
    channels = max(filters, _number(properties.get("dicom.NumberOfOpticalPaths")))
    if channels > 1:
        kind = "filters" if filters > 1 else "optical paths"
        raise SlideError(path, f"it has {channels} channels ({kind}), and OpenSlide shows one image of it", EXPORT_ONE)


def _hamamatsu(path: Path, properties: Mapping[str, str]) -> tuple[int, str]:
    if "hamamatsu.NoLayers" in properties:
        return _number(properties["hamamatsu.NoLayers"]), "layer 0"
    with tifffile.TiffFile(path, is_ndpi=True) as file:
        tags = [page.aspage().tags for page in file.pages]
        # The macro and the map have negative magnifications.
        scans = [one for one in tags if float(one.valueof(_NDPI_MAGNIFICATION, default=1)) > 0]
        offsets = {int(one.valueof(_NDPI_FOCAL_PLANE, default=0)) for one in scans}
    return len(offsets), "the one at offset 0"


def _mirax(path: Path, properties: Mapping[str, str]) -> tuple[int, str]:
    levels = _mirax_levels(properties, "Microscope focus level")
    stack = [name for name in levels if name.startswith("ZStackLevel")]
    # The first level is then the default plane, computed from the stack or taken from it.
    return len(stack) or len(levels), "the scanner's default one"


def _mirax_levels(properties: Mapping[str, str], hierarchy: str) -> list[str]:
    """Return the names of the levels of a MIRAX slide's hierarchy."""
    prefix = "mirax.HIERARCHICAL.HIER_"
    for number in range(_number(properties.get(f"{prefix}COUNT"))):
        if properties.get(f"{prefix}{number}_NAME") == hierarchy:
            count = _number(properties.get(f"{prefix}{number}_COUNT"))
            return [properties.get(f"{prefix}{number}_VAL_{level}", "") for level in range(count)]
    return []


def _leica(path: Path, properties: Mapping[str, str]) -> tuple[int, str]:
    with tifffile.TiffFile(path) as file:
        description = file.pages[0].aspage().description
    planes = re.findall(r"<dimension\b[^>]*\sz\s*=\s*[\"'](\d+)", description)
    return len({int(plane) for plane in planes}), "plane 0"


def _ventana(path: Path, properties: Mapping[str, str]) -> tuple[int, str]:
    return _number(properties.get("ventana.Z-layers")), "the nominal one"


_COUNTS: dict[str, Callable[[Path, Mapping[str, str]], tuple[int, str]]] = {
    "hamamatsu": _hamamatsu,
    "mirax": _mirax,
    "leica": _leica,
    "ventana": _ventana,
}


def _number(text: str | None) -> int:
    """Return a property as a whole number; 1 if it is not one."""
    return int(text) if text is not None and text.strip().isdecimal() else 1

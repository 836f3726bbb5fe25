"""Read the OME-XML about the images of a TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import PurePath
from xml.etree import ElementTree


@dataclass(frozen=True)
class OmeImage:
    """An ``Image`` element of OME-XML.

    Attributes:
        name: its name; may be empty.
        samples: values per pixel over all channels, focal planes and time points.
        lengths: text of ``PhysicalSizeY`` and ``PhysicalSizeX``; None if missing.
        units: text of their units; OME's default is µm.
    """

    name: str
    samples: int
    lengths: tuple[str | None, str | None]
    units: tuple[str, str]


def ome_images(xml: str, file_name: str) -> dict[int, OmeImage]:
    """Return each image by the number of its first page.

    Args:
        xml: OME-XML; the result is empty if it does not parse.
        file_name: name of the TIFF. Where several files share one XML, only the images in this one are returned.
    """
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return {}
    images: dict[int, OmeImage] = {}
    elsewhere: dict[int, OmeImage] = {}
    for element in _children(root, "Image"):
        for pixels in _children(element, "Pixels"):
            page, other_file = _first_page(pixels, file_name)
            (elsewhere if other_file else images).setdefault(page, _image(element, pixels))
    # No image names a file that was renamed.
    return images or elsewhere


def _image(element: ElementTree.Element, pixels: ElementTree.Element) -> OmeImage:
    return OmeImage(
        element.get("Name", ""),
        prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"),
        (pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeX")),
        (pixels.get("PhysicalSizeYUnit", "µm"), pixels.get("PhysicalSizeXUnit", "µm")),
    )


def _first_page(pixels: ElementTree.Element, file_name: str) -> tuple[int, bool]:
    """Return the first page of an image, and whether the image is in another file."""
    here: list[int] = []
    elsewhere: list[int] = []
    for data in _children(pixels, "TiffData"):
        named = [uuid.get("FileName") for uuid in _children(data, "UUID")]
        is_elsewhere = any(name and PurePath(name).name != file_name for name in named)
        (elsewhere if is_elsewhere else here).append(int(data.get("IFD", 0)))
    return min(here or elsewhere, default=0), not here and bool(elsewhere)


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield the children of a name, in any namespace."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)

"""What OME-XML says of the images of a TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import PurePath
from xml.etree import ElementTree


@dataclass(frozen=True)
class OmeImage:
    """One ``Image`` element.

    Attributes:
        name: its name, or nothing.
        samples: values per pixel over all channels, focal planes and time points.
        lengths: ``PhysicalSizeY`` and ``PhysicalSizeX`` as they are written, where they are.
        units: their units as they are written; OME's default is µm.
    """

    name: str
    samples: int
    lengths: tuple[str | None, str | None]
    units: tuple[str, str]


def ome_images(xml: str, file_name: str) -> dict[int, OmeImage]:
    """Return the images by the number of the page on which each begins.

    Args:
        xml: OME-XML; nothing is returned where it does not parse.
        file_name: of several files with one XML, each image is taken from the file that it names.
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
    # A renamed file is named by none of them.
    return images or elsewhere


def _image(element: ElementTree.Element, pixels: ElementTree.Element) -> OmeImage:
    return OmeImage(
        element.get("Name", ""),
        prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"),
        (pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeX")),
        (pixels.get("PhysicalSizeYUnit", "µm"), pixels.get("PhysicalSizeXUnit", "µm")),
    )


def _first_page(pixels: ElementTree.Element, file_name: str) -> tuple[int, bool]:
    """Return the first page of an image, and whether it is in another file."""
    here: list[int] = []
    elsewhere: list[int] = []
    for data in _children(pixels, "TiffData"):
        named = [uuid.get("FileName") for uuid in _children(data, "UUID")]
        is_elsewhere = any(name and PurePath(name).name != file_name for name in named)
        (elsewhere if is_elsewhere else here).append(int(data.get("IFD", 0)))
    return min(here or elsewhere, default=0), not here and bool(elsewhere)


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield children of one name in whatever namespace."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)

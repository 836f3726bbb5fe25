"""List the images of a TIFF, and find the slide among them.

A TIFF is a list of pages. Levels of a pyramid, focal planes, channels, labels, macros and thumbnails are all pages, in
any order that their writer chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

import tifffile
from tifffile import PHOTOMETRIC

from ..errors import SlideError
from .ome import OmeImage, ome_images
from .pixel_size import PixelSize, pixel_size

# Names that scanners and converters give to images other than the scan.
_AUXILIARY = re.compile(r"\W*(slide[ _-]?)?(label|macro|overview|thumb(nail)?|barcode|preview|map)\b", re.IGNORECASE)
# An image with a quarter of the pixels may be another scan; a macro or thumbnail has fewer.
_COMPARABLE_AREA = 4
# A macro's pixels are several times as large as the scan's.
_COMPARABLE_MPP = 1.5
_LONGEST_NAME = 40
_SAME_SCALE = 0.1
GIVE_SERIES = 'Give its number: --series 1 for one slide, "series": 1 in a datalist, series=1 in Python'


@dataclass
class TiffImage:
    """One image of a TIFF.

    Attributes:
        levels: its pages, finest first.
        name: its name in the file; may be empty.
        declared_planes: number of channels, focal planes and time points in its header.
        pixel_size: its µm/px in the file.
        pages_of_full_size: number of its pages of full size.
    """

    levels: list[tifffile.TiffPage]
    name: str
    declared_planes: int
    pixel_size: PixelSize
    pages_of_full_size: int = 1

    @property
    def base(self) -> tifffile.TiffPage:
        """Return the finest level."""
        return self.levels[0]

    @property
    def planes(self) -> int:
        """Return the number of channels, focal planes and time points."""
        return max(self.declared_planes, self.pages_of_full_size)

    @property
    def area(self) -> int:
        """Return the number of pixels of the finest level."""
        return self.base.imagewidth * self.base.imagelength

    @property
    def is_auxiliary(self) -> bool:
        """Return whether the file says that this is not the scan itself."""
        return bool(self.base.is_reduced or _AUXILIARY.match(self.name))

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Return a rank by likeness to a scan: tiles first, then a pyramid, then the size."""
        return self.base.is_tiled, len(self.levels) > 1, self.area

    def absorb(self, page: tifffile.TiffPage) -> bool:
        """Add a page if it is a plane or a further level of this image; return whether it is."""
        repeated = next((level for level in self.levels if _same_kind(level, page) and _same_size(level, page)), None)
        if repeated is not None:
            self.pages_of_full_size += repeated is self.base and not page.is_reduced
            return True
        if not self._is_next_level(page):
            return False
        self.levels.append(page)
        return True

    def _is_next_level(self, page: tifffile.TiffPage) -> bool:
        finer = self.levels[-1]
        # Writers mark either every smaller level as reduced or none.
        unmarked = len(self.levels) > 1 and finer.is_reduced and not page.is_reduced
        return not unmarked and _same_kind(finer, page) and _is_smaller_copy(finer, page)


def slide_image(path: Path, file: tifffile.TiffFile, series: int | None = None) -> TiffImage:
    """Return the image that is the slide.

    Args:
        path: the file.
        file: the same, open.
        series: number of the image in the order of the file; None to choose the likeliest.

    Raises:
        SlideError: several images may be the slide, there is no such image, or it has several planes.
    """
    images = tiff_images(path, file)
    if series is None:
        chosen = _likeliest(path, images)
    elif 0 <= series < len(images):
        chosen = images[series]
    else:
        raise SlideError(path, f"it has no image {series}: it holds {_listed(images, images)}", GIVE_SERIES)
    if chosen.planes > 1:
        raise SlideError(
            path,
            f"it has {chosen.planes} planes of {chosen.base.imagewidth} x {chosen.base.imagelength} pixels (channels, "
            "focal planes or time points)",
            "Export one plane as a file of its own, as interleaved 8-bit RGB",
        )
    return chosen


def tiff_images(path: Path, file: tifffile.TiffFile) -> list[TiffImage]:
    """Return all images of a TIFF in the order of their first pages."""
    ome_images_of_file = ome_images(file.ome_metadata or "", path.name) if file.is_ome else {}
    images: list[TiffImage] = []
    for number, page in _pages(file):
        _check_no_mask(path, page)
        ome_image = ome_images_of_file.get(number)
        image = TiffImage(
            [page],
            _name(page, ome_image),
            _declared_planes(page, ome_image),
            pixel_size(page, ome_image),
        )
        if any(_belongs(image, ome_image, earlier) and earlier.absorb(page) for earlier in reversed(images)):
            continue
        for smaller in page.pages or []:
            _check_no_mask(path, smaller.aspage())
            image.absorb(smaller.aspage())
        images.append(image)
    return images


def _pages(file: tifffile.TiffFile) -> Iterator[tuple[int, tifffile.TiffPage]]:
    """Yield each page once with its number; a damaged chain may return to one."""
    seen: set[int] = set()
    for number, page in enumerate(file.pages):
        if page.offset not in seen:
            seen.add(page.offset)
            yield number, page.aspage()


def _belongs(image: TiffImage, ome_image: OmeImage | None, earlier: TiffImage) -> bool:
    """Return whether a page, as an image of its own, may be a plane or level of an earlier image."""
    same_size = _same_size(earlier.base, image.base)
    if image.name != earlier.name and not _may_differ(image, earlier):
        return False
    # Where levels are SubIFDs, pages are only planes.
    if earlier.base.subifds and not same_size:
        return False
    if ome_image is None:
        return True
    # OME lists it as another image. It may be a level of an older writer: its µm/px then grows as its size shrinks.
    if same_size:
        return False
    own, finest = image.pixel_size.row, earlier.pixel_size.row
    if own is None or finest is None:
        return bool(image.name) and image.name == earlier.name
    return abs(own / finest / (earlier.base.imagelength / image.base.imagelength) - 1) < _SAME_SCALE


def _may_differ(image: TiffImage, earlier: TiffImage) -> bool:
    """Return whether a page is a level of an earlier image though their names differ."""
    if _AUXILIARY.match(image.name):
        return False
    if not _AUXILIARY.match(earlier.name) or image.base.is_reduced:
        return True
    # A label or macro is followed by its own pyramid, shrunk by whole numbers and without names, or by the scan.
    down = earlier.base.imagelength / image.base.imagelength
    return not image.name and abs(down - round(down)) <= down / image.base.imagelength


def _same_kind(one: tifffile.TiffPage, other: tifffile.TiffPage) -> bool:
    return (
        one.is_tiled == other.is_tiled
        and one.samplesperpixel == other.samplesperpixel
        and one.bitspersample == other.bitspersample
        and one.extrasamples == other.extrasamples
        and (one.photometric == PHOTOMETRIC.PALETTE) == (other.photometric == PHOTOMETRIC.PALETTE)
    )


def _same_size(one: tifffile.TiffPage, other: tifffile.TiffPage) -> bool:
    return (one.imagewidth, one.imagelength) == (other.imagewidth, other.imagelength)


def _is_smaller_copy(finer: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Return whether a page is smaller and of the same proportions."""
    if not 0 < page.imagewidth < finer.imagewidth or not 0 < page.imagelength < finer.imagelength:
        return False
    down = finer.imagelength / page.imagelength
    # One pixel of rounding on the shorter side changes the ratio by this much.
    tolerance = 2 * down / min(page.imagelength, page.imagewidth)
    return abs(down - finer.imagewidth / page.imagewidth) <= tolerance + 0.01


def _check_no_mask(path: Path, page: tifffile.TiffPage) -> None:
    if page.photometric == PHOTOMETRIC.MASK:
        raise SlideError(
            path, "its transparency is a mask page of its own", "Store it as an alpha channel, or fill with white"
        )


def _name(page: tifffile.TiffPage, ome_image: OmeImage | None) -> str:
    """Return the name of a page in the file; may be empty."""
    if ome_image is not None:
        return ome_image.name
    kind = re.search(r"<ImageType>(\w+)</ImageType>", page.description)
    if kind:
        return kind[1]
    if page.is_svs:
        lines = page.description.splitlines()
        return lines[1].split(" ")[0] if len(lines) > 1 and _AUXILIARY.match(lines[1]) else ""
    name = str(page.tags.valueof("PageName") or page.description).strip()
    return name if len(name) <= _LONGEST_NAME and name.isprintable() and not name.startswith("{") else ""


def _declared_planes(page: tifffile.TiffPage, ome_image: OmeImage | None) -> int:
    """Return the number of planes that the header declares for one page; they need no pages of their own."""
    if ome_image is not None:
        return max(1, ceil(ome_image.samples / page.samplesperpixel))
    if page.is_stk:
        return max(1, page.tags["UIC2tag"].count)
    count = re.search(r"^images=(\d+)", page.description, re.MULTILINE) if page.is_imagej else None
    if count:
        return max(1, int(count[1]))
    shape = re.search(r"shape\W+((\d+,? ?)+)", page.shaped_description or "")
    if shape:
        values = prod(int(side) for side in re.findall(r"\d+", shape[1]))
        return max(1, values // (page.imagewidth * page.imagelength * page.samplesperpixel))
    return 1


def _likeliest(path: Path, images: list[TiffImage]) -> TiffImage:
    candidates = [image for image in images if not image.is_auxiliary]
    candidates = candidates or [image for image in images if not image.base.is_reduced] or images
    best = max(candidates, key=lambda image: image.rank)
    rivals = [image for image in candidates if image is not best and _may_be_the_slide_too(image, best)]
    if rivals:
        listed = _listed(images, [image for image in images if image is best or image in rivals])
        raise SlideError(
            path,
            f"each of these images may be the slide: {listed}",
            GIVE_SERIES,
        )
    return best


def _may_be_the_slide_too(other: TiffImage, best: TiffImage) -> bool:
    """Return whether an image may be the scan too, besides the likeliest one."""
    own, finest = other.pixel_size.row, best.pixel_size.row
    # Aperio repeats the scan's µm/px in the thumbnail.
    if own is not None and finest is not None and not other.base.is_svs:
        coarser = own / finest
        if coarser >= _COMPARABLE_MPP:
            return False
        if other.base.is_tiled == best.base.is_tiled or coarser <= 1 / _COMPARABLE_MPP:
            return True
    if other.area > best.area:
        return True
    if _is_smaller_copy(best.base, other.base):
        return False
    if not best.base.is_tiled and len(best.levels) == 1:
        # Neither tiles nor a pyramid tell a scan from other pictures.
        return True
    return other.rank[:2] == best.rank[:2] and other.area * _COMPARABLE_AREA > best.area


def _listed(images: list[TiffImage], named: list[TiffImage]) -> str:
    return ", ".join(
        f"{number}{f' {image.name!r}' if image.name else ''} "
        f"({image.base.imagewidth} x {image.base.imagelength} pixels)"
        for number, image in enumerate(images)
        if any(image is one for one in named)
    )

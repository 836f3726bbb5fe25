"""Read and check the pages, tiles and properties of a TIFF slide, without its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

from ..errors import SlideError, UnsupportedLayoutError
from .alpha import Alpha, alpha_of, colour_samples
from .pixel_size import svs_fields
from .tiff_images import slide_image

DAMAGED_HEADER = "The header is damaged; get an undamaged copy"
_OTHER_BACKEND = "Try backend='openslide', or convert the file to a tiled 8-bit RGB TIFF"
_CONVERT = "Convert the file to 8-bit RGB"
_LEFT_TO_OPENSLIDE = (PHOTOMETRIC.YCBCR, PHOTOMETRIC.SEPARATED)
_SHOWN_AS_STORED = (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE)
# Only transparency may follow the colours.
_MOST_EXTRA_SAMPLES = 1


class TiffStructure:
    """The image of a TIFF that is the slide.

    Attributes:
        file: the file, open in tifffile.
        pages: the levels, finest first.
        level_shapes: their (height, width).
        is_first: whether the slide is the file's first image.
        alpha: kind of transparency of the pixels; None if they have colours only.
        colormaps: the palette of each level, or None where pixels are not indices.
        pixel_size: its µm/px in the file.
        properties: other metadata.
        unsupported: reason why tifffile does not decode its colours, if another library may.

    Raises:
        SlideError: the file is damaged or ambiguous, or no library decodes its colours.
    """

    def __init__(self, path: Path, series: int | None = None) -> None:
        self.path = path
        try:
            self.file = tifffile.TiffFile(path)
            first = self.file.pages[0].aspage()
        except Exception as error:  # tifffile fails on damaged tags in many ways
            raise SlideError(
                path, f"not a readable TIFF ({error})", "Get an undamaged copy; the file may have been cut short"
            ) from error
        try:
            self._read(first, series)
        except SlideError:
            self.file.close()
            raise
        except Exception as error:  # tifffile passes on the content of damaged tags
            self.file.close()
            raise SlideError(path, f"its header contradicts itself ({error})", DAMAGED_HEADER) from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def is_missing(self, level: int, top: int, left: int, height: int, width: int) -> bool:
        """Return whether the file lacks a tile of a rectangle."""
        page = self.pages[level]
        tile_height, tile_width = tile_shape(page)
        absent = (np.asarray(page.dataoffsets) == 0) | (np.asarray(page.databytecounts) == 0)
        grid = absent.reshape(-1, *grid_shape(page))
        rows = slice(top // tile_height, (top + height - 1) // tile_height + 1)
        columns = slice(left // tile_width, (left + width - 1) // tile_width + 1)
        return bool(grid[:, rows, columns].any())

    def _read(self, first: tifffile.TiffPage, series: int | None) -> None:
        self._check_tags(first)
        image = slide_image(self.path, self.file, series)
        self.pages = image.levels
        self.unsupported: UnsupportedLayoutError | None = None
        for page in self.pages:
            self._check_tags(page)
            self._check_colours(page)
            self.unsupported = self.unsupported or self._unsupported(page)
            self._check_count(page)
        self._check_places()
        self.level_shapes = [(page.imagelength, page.imagewidth) for page in self.pages]
        self.is_first = image.base.index == 0
        self.alpha = alpha_of(image.base)
        self.colormaps = [_colormap(page) for page in self.pages]
        self.pixel_size = image.pixel_size
        self.properties = _properties(image.base)

    def _check_tags(self, page: tifffile.TiffPage) -> None:
        """Check that the header's statements about a pixel agree.

        Raises:
            SlideError: they do not.
        """
        numbers = (page.imagewidth, page.imagelength, page.samplesperpixel, page.rowsperstrip)
        if not all(isinstance(n, int) for n in numbers) or min(numbers[:3]) < 1:
            raise SlideError(self.path, f"its header has an image of {numbers[:3]}", DAMAGED_HEADER)
        bits = page.tags.valueof("BitsPerSample", default=page.bitspersample)
        listed = len(bits) if isinstance(bits, tuple) else 1
        colours = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
        if page.samplesperpixel < colours or (listed > 1 and listed != page.samplesperpixel):
            raise SlideError(
                self.path,
                f"its header says {page.samplesperpixel} samples per pixel, {listed} bit depths and "
                f"{_colours(page)} colours",
                DAMAGED_HEADER,
            )

    def _check_colours(self, page: tifffile.TiffPage) -> None:
        """Refuse pixels whose colours no library here decodes unchanged."""
        if page.bitspersample > 16 or page.sampleformat not in (1, None):
            raise SlideError(self.path, f"pixels of {page.dtype}", _CONVERT)
        if page.bitspersample == 16 and page.photometric not in (PHOTOMETRIC.RGB, *_LEFT_TO_OPENSLIDE):
            # libtiff, behind OpenSlide, mistakes samples for bytes where a tile reaches over the border.
            raise SlideError(self.path, f"{_colours(page)} pixels of 16 bits", _CONVERT)
        if page.imagedepth != 1:
            raise SlideError(self.path, f"it has {page.imagedepth} focal planes", "Export one as a file of its own")
        extra = page.samplesperpixel - colour_samples(page)
        if extra > _MOST_EXTRA_SAMPLES:
            raise SlideError(
                self.path,
                f"pixels of {page.samplesperpixel} samples of {page.bitspersample} bits, {extra} more than its "
                f"{_colours(page)} colours and no library says what they are",
                _CONVERT,
            )
        alpha = alpha_of(page)
        if alpha is None:
            return
        multiplied = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK)
        if (alpha is Alpha.ASSOCIATED and not multiplied) or page.photometric in _LEFT_TO_OPENSLIDE:
            raise SlideError(self.path, f"{_colours(page)} colours with transparency", _CONVERT)
        if page.bitspersample != 8 and page.photometric != PHOTOMETRIC.RGB:
            raise SlideError(
                self.path, f"{_colours(page)} pixels of {page.bitspersample} bits with transparency", _CONVERT
            )

    def _unsupported(self, page: tifffile.TiffPage) -> UnsupportedLayoutError | None:
        """Return the reason why tifffile does not decode the colours, or None if it does."""
        if page.bitspersample != 8:
            return UnsupportedLayoutError(
                self.path, f"pixels of {page.samplesperpixel} samples of {page.bitspersample} bits", _OTHER_BACKEND
            )
        # Aperio's YCbCr JPEG 2000 is decoded without conversion to RGB, whatever its photometric tag says.
        as_stored = page.photometric in _SHOWN_AS_STORED and page.compression != COMPRESSION.APERIO_JP2000_YCBC
        decoded_to_rgb = page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG
        if not as_stored and not decoded_to_rgb:
            problem = f"{_colours(page)} colours in {COMPRESSION(page.compression).name} compression"
            if page.photometric in _LEFT_TO_OPENSLIDE or page.compression == COMPRESSION.APERIO_JP2000_YCBC:
                return UnsupportedLayoutError(self.path, problem, _OTHER_BACKEND)
            raise SlideError(self.path, problem, _CONVERT)
        if planes_of(page) > 1 and page.compression == COMPRESSION.JPEG:
            return UnsupportedLayoutError(self.path, "colour planes are stored apart, as JPEG", _OTHER_BACKEND)
        return None

    def _check_count(self, page: tifffile.TiffPage) -> None:
        rows, columns = grid_shape(page)
        expected = rows * columns * planes_of(page)
        if not expected == len(page.dataoffsets) == len(page.databytecounts):
            raise SlideError(
                self.path,
                f"the header says {page.imagewidth} x {page.imagelength} pixels in {expected} tiles, but the file "
                f"lists {len(page.dataoffsets)}",
                DAMAGED_HEADER,
            )

    def _check_places(self) -> None:
        """Check that no two different tiles share bytes."""
        places = np.concatenate([np.stack([p.dataoffsets, p.databytecounts], axis=1) for p in self.pages])
        places = np.unique(places[(places > 0).all(axis=1)].astype(np.int64), axis=0)
        overlaps = np.nonzero(places[:-1].sum(axis=1) > places[1:, 0])[0]
        if len(overlaps):
            one, two = places[overlaps[0]], places[overlaps[0] + 1]
            raise SlideError(
                self.path, f"two tiles share bytes ({one[0]}+{one[1]} and {two[0]}+{two[1]})", DAMAGED_HEADER
            )


def tile_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return height and width of a page's tiles or strips."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def grid_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the number of tiles of a page, down and across."""
    height, width = tile_shape(page)
    return -(-page.imagelength // height), -(-page.imagewidth // width)


def planes_of(page: tifffile.TiffPage) -> int:
    """Return the number of sets of tiles that hold a page's samples; 1 if these are interleaved."""
    return page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1


def _colours(page: tifffile.TiffPage) -> str:
    return str(getattr(page.photometric, "name", page.photometric))


def _colormap(page: tifffile.TiffPage) -> np.ndarray | None:
    if page.photometric != PHOTOMETRIC.PALETTE:
        return None
    stored = np.asarray(page.colormap).reshape(3, 1 << page.bitspersample)
    # Some writers fill only the lower half of the 16 bits.
    return (stored if stored.max() < 256 else stored >> 8).astype(np.uint8).T


def _properties(page: tifffile.TiffPage) -> dict[str, str]:
    tags = {name: page.tags.valueof(name) for name in ("Make", "Model", "Software")}
    return {**{k: str(v) for k, v in tags.items() if v}, **(svs_fields(page.description) if page.is_svs else {})}

"""TIFF slides through tifffile and imagecodecs: SVS, generic and OME-TIFF pyramids, tile by tile."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

from ..errors import SlideError, UnsupportedLayoutError
from ..jpeg import jpeg_damage
from .base import Backend
from .cache import TILES

_OTHER_BACKEND = "Try backend='openslide', or convert the file to a tiled 8-bit RGB TIFF"
_DAMAGED_HEADER = "The header is damaged; get an undamaged copy"
_DAMAGED = "Get an undamaged copy of the file; these pixels cannot be recovered"
# Printers' resolutions (72 to 1200 dots per inch) are left in files that were never near a microscope.
_COARSEST_RESOLUTION_TAG_UM = 20.0
_UNIT_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_LEFT_TO_OPENSLIDE = (PHOTOMETRIC.YCBCR, PHOTOMETRIC.SEPARATED)
_SHOWN_AS_STORED = (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE)
_identities = itertools.count()


def is_tiff(path: Path) -> bool:
    """Whether the file starts as a TIFF or BigTIFF does."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffBackend(Backend):
    """Tiled or striped 8-bit TIFF: RGB, grey or palette."""

    name: ClassVar[str] = "tiff"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = next(_identities)
        try:
            self._file = tifffile.TiffFile(path)
            first = self._file.pages[0].aspage()
        except Exception as error:  # tifffile stumbles over damaged tags in many ways
            raise SlideError(
                path, f"not a readable TIFF ({error})", "Get an undamaged copy; the file may have been cut short"
            ) from error
        try:
            self._check_tags(first)
            self.pages = self._pyramid(first)
            for page in self.pages:
                self._check_structure(page)
            self._check_places()
            self._check_planes(first)
            self.level_shapes = [(page.imagelength, page.imagewidth) for page in self.pages]
            self.mpp = self._read_mpp(first)
            self.properties = self._read_properties(first)
            self.colormap = _colormap(first)
        except SlideError:
            self._file.close()
            raise
        except Exception as error:  # tifffile hands on whatever a damaged tag claims to be
            self._file.close()
            raise SlideError(path, f"its header contradicts itself ({error})", _DAMAGED_HEADER) from error

    def close(self) -> None:
        self._file.close()

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        samples = self.read_samples(level, top, left, height, width)
        if self.colormap is not None:
            return self.colormap[samples[..., 0]]
        if samples.shape[2] == 1:
            grey = samples if self.pages[level].photometric != PHOTOMETRIC.MINISWHITE else 255 - samples
            return np.repeat(grey, 3, axis=2)
        return samples[..., :3]

    def read_samples(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """As :meth:`read`, but the stored values ``(height, width, samples)``: of a palette image its indices."""
        page = self.pages[level]
        tile_height, tile_width = _tile_shape(page)
        across = -(-page.imagewidth // tile_width)
        result = np.empty((height, width, page.samplesperpixel), dtype=np.uint8)
        for row in range(top // tile_height, (top + height - 1) // tile_height + 1):
            for column in range(left // tile_width, (left + width - 1) // tile_width + 1):
                tile = self._tile(level, row * across + column)
                tile_top, tile_left = row * tile_height, column * tile_width
                y0, x0 = max(top, tile_top), max(left, tile_left)
                y1 = min(top + height, tile_top + tile_height)
                x1 = min(left + width, tile_left + tile_width)
                result[y0 - top : y1 - top, x0 - left : x1 - left] = tile[
                    y0 - tile_top : y1 - tile_top, x0 - tile_left : x1 - tile_left
                ]
        return result

    def tiles(self) -> list[tuple[int, int]]:
        """(level, index) of every tile."""
        return [(level, index) for level, page in enumerate(self.pages) for index in range(len(page.dataoffsets))]

    def tile_rectangle(self, level: int, index: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a tile's part inside the level."""
        page = self.pages[level]
        tile_height, tile_width = _tile_shape(page)
        down, across = divmod(index, -(-page.imagewidth // tile_width))
        top, left = down * tile_height, across * tile_width
        return top, left, min(tile_height, page.imagelength - top), min(tile_width, page.imagewidth - left)

    def _tile(self, level: int, index: int) -> np.ndarray:
        key = (self._identity, level, index)
        tile = TILES.get(key)
        if tile is None:
            tile = self._decode(level, index)
            TILES.put(key, tile)
        return tile

    def _decode(self, level: int, index: int) -> np.ndarray:
        page = self.pages[level]
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        place = f"level {level}, tile {index} (byte {offset})"
        if offset == 0 or count == 0:
            raise SlideError(self.path, f"{place} is missing from the file", _DAMAGED)
        try:
            data = os.pread(self._file.filehandle.fileno(), count, offset)
        except OSError as error:
            raise SlideError(self.path, f"{place} cannot be read ({error})", "Check the drive it is on") from error
        if len(data) != count:
            raise SlideError(self.path, f"{place}: the file ends {count - len(data)} bytes early", _DAMAGED)
        damage = jpeg_damage(data, page.jpegtables) if page.compression == COMPRESSION.JPEG else None
        if damage is not None:
            raise SlideError(self.path, f"{place}: {damage}", _DAMAGED)
        try:
            segment = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:  # every codec has exceptions of its own, without a common base
            raise SlideError(self.path, f"{place} cannot be decoded ({error})", _DAMAGED) from error
        if segment is None:
            raise SlideError(self.path, f"{place} is empty", _DAMAGED)
        needed = self.tile_rectangle(level, index)[2:]
        if segment.shape[1] < needed[0] or segment.shape[2] < needed[1] or segment.dtype != np.uint8:
            raise SlideError(self.path, f"{place} decodes to {segment.shape[1:]}, smaller than {needed}", _DAMAGED)
        return segment[0]

    def _pyramid(self, first: tifffile.TiffPage) -> list[tifffile.TiffPage]:
        """Level 0 and every further page (or SubIFD) that is the same picture, smaller."""
        candidates = [page.aspage() for page in first.pages or []]
        candidates += [page.aspage() for page in self._file.pages[1:]]
        levels = [first]
        for page in candidates:
            if self._is_next_level(levels[-1], page):
                levels.append(page)
        return levels

    @staticmethod
    def _is_next_level(finer: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
        same_kind = (
            page.is_tiled == finer.is_tiled
            and page.samplesperpixel == finer.samplesperpixel
            and page.bitspersample == finer.bitspersample
        )
        if not same_kind or page.imagewidth >= finer.imagewidth or page.imagelength >= finer.imagelength:
            return False
        down = finer.imagelength / page.imagelength
        # One pixel of rounding on the shorter side changes the ratio by this much.
        tolerance = 2 * down / min(page.imagelength, page.imagewidth)
        return abs(down - finer.imagewidth / page.imagewidth) <= tolerance + 0.01

    def _check_tags(self, page: tifffile.TiffPage) -> None:
        """Whether what the header says of a pixel agrees with itself."""
        numbers = (page.imagewidth, page.imagelength, page.samplesperpixel, page.rowsperstrip)
        if not all(isinstance(n, int) for n in numbers) or min(numbers[:3]) < 1:
            raise SlideError(self.path, f"its header has an image of {numbers[:3]}", _DAMAGED_HEADER)
        bits = page.tags.valueof("BitsPerSample", default=page.bitspersample)
        listed = len(bits) if isinstance(bits, tuple) else 1
        colours = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
        if page.samplesperpixel < colours or (listed > 1 and listed != page.samplesperpixel):
            raise SlideError(
                self.path,
                f"its header says {page.samplesperpixel} samples per pixel, {listed} bit depths and "
                f"{getattr(page.photometric, 'name', page.photometric)} colours",
                _DAMAGED_HEADER,
            )

    def _check_places(self) -> None:
        """No two tiles may share bytes, unless they are the same tile."""
        places = np.concatenate([np.stack([p.dataoffsets, p.databytecounts], axis=1) for p in self.pages])
        places = np.unique(places[(places > 0).all(axis=1)].astype(np.int64), axis=0)
        overlaps = np.nonzero(places[:-1].sum(axis=1) > places[1:, 0])[0]
        if len(overlaps):
            one, two = places[overlaps[0]], places[overlaps[0] + 1]
            raise SlideError(
                self.path, f"two tiles share bytes ({one[0]}+{one[1]} and {two[0]}+{two[1]})", _DAMAGED_HEADER
            )

    def _check_planes(self, first: tifffile.TiffPage) -> None:
        """Colours, focal planes and time points may be pages of their own; only one of them would be shown."""
        same = [page for page in self._file.pages if page.aspage().shape == first.shape]
        if (self._file.is_ome or self._file.is_imagej) and len(same) > 1:
            raise SlideError(
                self.path,
                f"it has {len(same)} planes of {first.imagewidth} x {first.imagelength} pixels (channels, focal "
                "planes or time points)",
                "Export one plane, as interleaved 8-bit RGB",
            )

    def _check_structure(self, page: tifffile.TiffPage) -> None:
        self._check_tags(page)
        if page.bitspersample > 16 or page.sampleformat not in (1, None):
            raise SlideError(self.path, f"pixels of {page.dtype}", "Convert the file to 8-bit RGB")
        if page.bitspersample != 8 or page.samplesperpixel not in (1, 3, 4) or page.imagedepth != 1:
            raise UnsupportedLayoutError(
                self.path, f"pixels of {page.samplesperpixel} samples of {page.bitspersample} bits", _OTHER_BACKEND
            )
        # Aperio's YCbCr JPEG 2000 is decoded without turning it into RGB, whatever its photometric tag says.
        as_stored = page.photometric in _SHOWN_AS_STORED and page.compression != COMPRESSION.APERIO_JP2000_YCBC
        decoded_to_rgb = page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG
        if not as_stored and not decoded_to_rgb:
            colours = getattr(page.photometric, "name", page.photometric)
            problem = f"{colours} colours in {COMPRESSION(page.compression).name} compression"
            if page.photometric in _LEFT_TO_OPENSLIDE or page.compression == COMPRESSION.APERIO_JP2000_YCBC:
                raise UnsupportedLayoutError(self.path, problem, _OTHER_BACKEND)
            raise SlideError(self.path, problem, "Convert the file to 8-bit RGB")
        if page.samplesperpixel > 1 and page.planarconfig != PLANARCONFIG.CONTIG:
            raise UnsupportedLayoutError(self.path, "colour planes are stored apart", _OTHER_BACKEND)
        tile_height, tile_width = _tile_shape(page)
        expected = -(-page.imagelength // tile_height) * -(-page.imagewidth // tile_width)
        if not expected == len(page.dataoffsets) == len(page.databytecounts):
            raise SlideError(
                self.path,
                f"the header says {page.imagewidth} x {page.imagelength} pixels in {expected} tiles, but the file "
                f"lists "
                f"{len(page.dataoffsets)}",
                _DAMAGED_HEADER,
            )

    def _read_mpp(self, page: tifffile.TiffPage) -> tuple[float, float] | None:
        if self._file.is_svs:
            text = self._svs_fields(page).get("MPP")
            return _pair(text, text)
        if self._file.is_ome:
            found = _ome_mpp(self._file.ome_metadata or "")
            if found is not None:
                return found
        return _resolution_mpp(page)

    def _read_properties(self, page: tifffile.TiffPage) -> dict[str, str]:
        fields = self._svs_fields(page) if self._file.is_svs else {}
        tags = {name: page.tags.valueof(name) for name in ("Make", "Model", "Software")}
        return {**{k: str(v) for k, v in tags.items() if v}, **fields}

    @staticmethod
    def _svs_fields(page: tifffile.TiffPage) -> dict[str, str]:
        parts = (part.split("=", 1) for part in page.description.split("|")[1:] if "=" in part)
        return {key.strip(): value.strip() for key, value in parts}


def _tile_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _colormap(page: tifffile.TiffPage) -> np.ndarray | None:
    if page.photometric != PHOTOMETRIC.PALETTE:
        return None
    return (np.asarray(page.colormap) >> 8).astype(np.uint8).T


def _pair(row: str | None, column: str | None) -> tuple[float, float] | None:
    if row is None or column is None:
        return None
    try:
        return float(row), float(column)
    except ValueError:
        return None


def _ome_mpp(xml: str) -> tuple[float, float] | None:
    try:
        pixels = next((e for e in ElementTree.fromstring(xml).iter() if e.tag.endswith("}Pixels")), None)
    except ElementTree.ParseError:
        return None
    if pixels is None:
        return None
    sizes = _pair(pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeX"))
    units = [_UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "YX"]
    if sizes is None or units[0] is None or units[1] is None:
        return None
    return sizes[0] * units[0], sizes[1] * units[1]


def _resolution_mpp(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit_um = {2: 25400.0, 3: 10000.0}.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    pixels = [page.tags.valueof(f"{axis}Resolution") for axis in "YX"]
    if unit_um is None or None in pixels or any(0 in rational for rational in pixels):
        return None
    row, column = (unit_um * rational[1] / rational[0] for rational in pixels)
    return (row, column) if max(row, column) <= _COARSEST_RESOLUTION_TAG_UM else None

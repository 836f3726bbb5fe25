"""Read the pixel size of a TIFF, in any unit that its writer chose."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

import tifffile

from ..decimals import parse_number
from .ome import OmeImage

# Files that never saw a microscope hold printing resolutions (72 to 1200 dots per inch).
_COARSEST_RESOLUTION_TAG_UM = 20.0
_INCH_UM = 25400.0
_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "": 0, "d": -1, "c": -2,
    "m": -3, "\u03bc": -6, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
# The units of length of OME, and the spellings of ImageJ and of people; case matters.
_UNITS_UM = {
    **{f"{prefix}m": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()},
    **{"\u00c5": 1e-4, "thou": _INCH_UM / 1000, "mil": _INCH_UM / 1000, "li": _INCH_UM / 12, "in": _INCH_UM},
    **{'"': _INCH_UM, "ft": 12 * _INCH_UM, "yd": 36 * _INCH_UM, "mi": 63360 * _INCH_UM, "pt": _INCH_UM / 72},
    **{"ua": 1.495978707e17, "ly": 9.4607304725808e21, "pc": 3.0856775814913673e22, "\u03bc": 1.0},
}
_WORDS_UM = {
    **{"micron": 1.0, "inch": _INCH_UM, "inche": _INCH_UM, "mil": _INCH_UM / 1000},
    **{"angstrom": 1e-4, "\u00e5ngstr\u00f6m": 1e-4},
    **{
        f"{prefix}{metre}": 10.0 ** (power + 6)
        for prefix, power in {"nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0}.items()
        for metre in ("meter", "metre")
    },
}
_MAGNIFICATION_UM = 10.0


@dataclass(frozen=True)
class PixelSize:
    """µm per pixel of an image.

    Attributes:
        mpp: µm/px as (row, column), or None if the file does not say.
        quote: the file's statement, for errors.
    """

    mpp: tuple[float, float] | None
    quote: str = ""

    @property
    def row(self) -> float | None:
        """Return µm per row, or None if that is not a length."""
        return self.mpp[0] if self.mpp is not None and 0 < self.mpp[0] < math.inf else None


def unit_in_um(unit: str) -> float | None:
    """Return a unit of length in µm, or None if the unit is unknown."""
    # ImageJ escapes characters outside ASCII. NFKC makes both micro signs one, and both Ångströms.
    unescaped = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), unit)
    # UTF-8 that was read as Latin-1 has this letter before the micro sign.
    normal = unicodedata.normalize("NFKC", unescaped.replace("\u00c2\u00b5", "\u00b5")).strip()
    if normal in _UNITS_UM:
        return _UNITS_UM[normal]
    word = normal.casefold()
    return _WORDS_UM.get(word, _WORDS_UM.get(word.removesuffix("s")))


def pixel_size(page: tifffile.TiffPage, ome_image: OmeImage | None = None) -> PixelSize:
    """Return the pixel size of a page from OME-XML, Aperio or ImageJ, or else from its resolution tags."""
    if ome_image is not None:
        own = _ome(ome_image)
    elif page.is_svs:
        own = _aperio(page.description)
    elif page.is_imagej:
        own = _imagej(page)
        if own.quote:
            # The resolution tags are in ImageJ's unit, not in their own.
            return own
    else:
        own = PixelSize(None)
    if own.mpp is not None:
        return own
    tags = _resolution_tags(page)
    if tags.mpp is not None:
        return tags
    return PixelSize(None, "; ".join(quote for quote in (own.quote, tags.quote) if quote))


def svs_fields(description: str) -> dict[str, str]:
    """Return the ``key = value`` parts of an Aperio description."""
    parts = (part.split("=", 1) for part in description.split("|")[1:] if "=" in part)
    return {key.strip(): value.strip() for key, value in parts}


def _ome(image: OmeImage) -> PixelSize:
    stated = [
        f'PhysicalSize{axis}="{length}" in {unit!r}'
        for axis, length, unit in zip("YX", image.lengths, image.units, strict=True)
        if length is not None
    ]
    quote = f"its OME-XML says {', '.join(stated)}" if stated else ""
    sizes = []
    for length, unit in zip(image.lengths, image.units, strict=True):
        number, um = parse_number(length or ""), unit_in_um(unit)
        if number is None or um is None:
            return PixelSize(None, quote)
        sizes.append(number * um)
    return PixelSize((sizes[0], sizes[1]), quote)


def _aperio(description: str) -> PixelSize:
    fields = {key.casefold(): (key, value) for key, value in svs_fields(description).items()}
    stated = [f"{key} = {value}" for name, (key, value) in fields.items() if name in ("mpp", "appmag")]
    quote = f"its Aperio description says {', '.join(stated)}" if stated else ""
    number = parse_number(fields.get("mpp", ("", ""))[1])
    if number is not None:
        return PixelSize((number, number), quote)
    magnification = parse_number(fields.get("appmag", ("", ""))[1])
    if magnification is not None and magnification > 0:
        quote += f"; scanners with that objective have about {_MAGNIFICATION_UM / magnification:.2g} µm"
    return PixelSize(None, quote)


def _imagej(page: tifffile.TiffPage) -> PixelSize:
    unit = re.search(r"^unit=(.*)$", page.imagej_description or "", re.MULTILINE)
    pixels = [_rational(page, f"{axis}Resolution") for axis in "YX"]
    if unit is None:
        return PixelSize(None)
    um = unit_in_um(unit[1])
    quote = f"its ImageJ description says unit={unit[1].strip()}"
    if um is None or pixels[0] is None or pixels[1] is None:
        return PixelSize(None, quote)
    return PixelSize((um / pixels[0], um / pixels[1]), quote)


def _resolution_tags(page: tifffile.TiffPage) -> PixelSize:
    stored = [page.tags.valueof(f"{axis}Resolution") for axis in "YX"]
    if stored == [None, None]:
        return PixelSize(None)
    code = int(page.tags.valueof("ResolutionUnit", default=2))
    unit_um, unit = {2: (_INCH_UM, "inch"), 3: (10000.0, "cm")}.get(code, (None, "no unit of length"))
    pixels = [_rational(page, f"{axis}Resolution") for axis in "YX"]
    if unit_um is None and pixels == [1.0, 1.0]:
        # Writers without a resolution fill this in.
        return PixelSize(None)
    text = " x ".join("nothing" if number is None else f"{number:g}" for number in pixels)
    quote = f"its resolution tags say {text} pixels per {unit}"
    if unit_um is None or pixels[0] is None or pixels[1] is None:
        return PixelSize(None, quote)
    row, column = unit_um / pixels[0], unit_um / pixels[1]
    if max(row, column) <= _COARSEST_RESOLUTION_TAG_UM:
        return PixelSize((row, column), quote)
    return PixelSize(None, f"{quote}, {max(row, column):.4g} µm a pixel, which is a printer's resolution")


def _rational(page: tifffile.TiffPage, name: str) -> float | None:
    """Return a positive rational tag as a number; None if it is missing or zero."""
    value = page.tags.valueof(name)
    if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
        return None
    number = value[0] / value[1]
    return number if math.isfinite(number) and number > 0 else None

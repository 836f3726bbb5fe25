"""Read annotations of every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..classes import ClassScheme
from ..slides import ORIGINS
from .asap import group_names, read_asap_xml
from .covered import warn_of_covered
from .cvat import read_cvat
from .geojson import read_geojson
from .label_image import LabelImage
from .label_tiff import lossy_error
from .layers import layer_names, read_layers
from .regions import AnnotatedRegion, AnnotationError, Annotations, LabelSource
from .xml import xml_root

GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")
_XML = (".xml", ".annotations")
_IMAGES = (".png", ".tif", ".tiff", ".bmp")
_LOSSY = (".jpg", ".jpeg")
ANNOTATION_SUFFIXES = (*GEOJSON_SUFFIXES, *_XML, *_IMAGES)


def read_annotations(
    path: str | Path,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None = None,
    label_values: Mapping[Any, str | None] | None = None,
    image: str | None = None,
    cut_out: Sequence[str] = (),
    label_channel: int | str | None = None,
    label_pages: Mapping[Any, str | None] | None = None,
    origin: str | None = None,
) -> LabelSource:
    """Read an annotation file.

    Args:
        path: QuPath GeoJSON (``.geojson``, ``.json``, also with ``.gz``); XML of ASAP, Aperio ImageScope, HALO (also
            ``.annotations``) or CVAT (``.xml``); or a label image (``.png``, ``.bmp``, ``.tif``, ``.tiff``).
        scheme: the classes.
        class_map: the file's class name -> the scheme's, or None to leave it unlabelled; for outlines.
        label_values: pixel value -> class name, or None; for label images, whose values are otherwise the scheme's
            labels.
        image: the slide's file name, which picks its part of a file about several slides (CVAT).
        cut_out: groups of ASAP's XML whose outlines lie on top of all others, whatever their order in the file.
        label_channel: channel with the labels in a label image of several, by number from 0 or as ``"red"``,
            ``"green"``, ``"blue"`` or ``"alpha"``.
        label_pages: page, from 0 -> class of its nonzero pixels, or None; for label images of several pages.
        origin: point of the slide that the file's coordinates count from: ``"slide"``, its corner, or ``"bounds"``, the
            corner of its bounds (:attr:`Slide.bounds`), as in QuPath. With ``"bounds"``, label images and CVAT's
            pictures cover the bounds. None: the origin that the file states, which only files of :func:`write_geojson`
            do, else the slide. On a slide without bounds both are the same.

    Unusable objects are left out, and one warning names them. Another names those that later ones cover completely.

    Raises:
        AnnotationError: the file is unreadable, nothing in it is usable, it has classes or values that are neither in
            the scheme nor mapped, it states another origin than ``origin``, or ``cut_out`` is given for a file that is
            not ASAP's XML.

    Example:
        >>> from common.annotations import read_annotations
        >>> from common.phantom import BREAST
        >>> from common.slides import open_slide
        >>> annotations = read_annotations("slide.geojson", BREAST.scheme)
        >>> with open_slide("slide.tif") as slide:
        ...     labels = annotations.label_map(slide, center=(384, 384), mpp=2.0, size=256)
        >>> labels.shape, labels.dtype
        ((256, 256), dtype('uint8'))
    """
    path = Path(path)
    if origin is not None and origin not in ORIGINS:
        raise AnnotationError(path, f"its origin is given as {origin!r:.40}", f"Give {' or '.join(ORIGINS)}")
    if not path.exists():
        raise AnnotationError(path, "no such file", 'Check the datalist\'s "label"')
    try:
        if annotation_suffix(path) in _IMAGES and not cut_out:
            return LabelImage(path, scheme, label_values, label_channel, label_pages, origin or "slide")
        return _read_outlines(path, scheme, class_map, image, cut_out, origin)
    except OSError as error:
        raise AnnotationError(path, f"cannot be read ({error.strerror})", "Check the file") from error


def _read_outlines(
    path: Path,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None,
    image: str | None,
    cut_out: Sequence[str],
    origin: str | None,
) -> Annotations:
    suffix = annotation_suffix(path)
    if cut_out and suffix != ".xml":
        raise _no_groups(path)
    if suffix in GEOJSON_SUFFIXES:
        regions, stated = read_geojson(path, scheme, class_map)
        return _outlines(path, regions, _agreed(path, origin, stated))
    if suffix in _XML:
        regions, canvas = _read_xml(path, scheme, class_map, image, cut_out)
        return _outlines(path, regions, origin or "slide", canvas)
    if suffix in _LOSSY:
        raise lossy_error(path, "a JPEG, whose compression")
    raise AnnotationError(path, f"unknown annotation format {suffix!r}", f"Known are {', '.join(ANNOTATION_SUFFIXES)}")


def annotation_suffix(path: str | Path) -> str:
    """Return the ending of an annotation file's name in lower case, both parts of ``.geojson.gz``."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    both = "".join(suffixes)
    return both if both in ANNOTATION_SUFFIXES else "".join(suffixes[-1:])


def _outlines(
    path: Path, regions: list[AnnotatedRegion], origin: str, canvas: tuple[int, int] | None = None
) -> Annotations:
    annotations = Annotations(regions, canvas, path, origin)
    annotations.remark = warn_of_covered(path, regions)
    return annotations


def _agreed(path: Path, given: str | None, stated: str | None) -> str:
    """Return the origin that a file states, else the given one."""
    if given is not None and stated is not None and given != stated:
        raise AnnotationError(
            path, f"it says that it counts from the {stated}, but is to be read from the {given}", "Take origin out"
        )
    return stated or given or "slide"


def region_names(path: str | Path) -> list[list[str]]:
    """Return the names of each region of an XML file; the first that is known is its class.

    In ASAP's XML these are its group and those above it; in ImageScope's and HALO's its own names and its layer's.

    Raises:
        AnnotationError: the file has another format.
    """
    path = Path(path)
    root = xml_root(path)
    if root.tag == "ASAP_Annotations":
        return group_names(root)
    if root.tag == "Annotations":
        return layer_names(root)
    raise AnnotationError(path, f"its root is <{root.tag}>", "Known are <ASAP_Annotations> and <Annotations>")


def _no_groups(path: Path) -> AnnotationError:
    return AnnotationError(path, '"cut_out" names groups of ASAP\'s XML, which it is not', "Take cut_out out")


def _read_xml(
    path: Path,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None,
    image: str | None,
    cut_out: Sequence[str],
) -> tuple[list[AnnotatedRegion], tuple[int, int] | None]:
    root = xml_root(path)
    if root.tag == "ASAP_Annotations":
        return read_asap_xml(path, root, scheme, class_map, cut_out), None
    if cut_out:
        raise _no_groups(path)
    if root.tag == "Annotations":
        return read_layers(path, root, scheme, class_map), None
    if root.tag == "annotations":
        return read_cvat(path, root, scheme, class_map, image)
    raise AnnotationError(
        path,
        f"its root is <{root.tag}>",
        "Known are <ASAP_Annotations>, <Annotations> (ImageScope, HALO) and <annotations> (CVAT)",
    )

"""One function for every annotation format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..classes import ClassScheme
from .asap import read_asap_xml
from .geojson import read_geojson
from .label_image import LabelImage
from .regions import AnnotationError, Annotations, LabelSource

_OUTLINES = {".geojson": read_geojson, ".json": read_geojson, ".xml": read_asap_xml}
_IMAGES = (".png", ".tif", ".tiff")


def read_annotations(
    path: str | Path,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None = None,
    label_values: Mapping[Any, str | None] | None = None,
) -> LabelSource:
    """Read an annotation file.

    Args:
        path: QuPath GeoJSON (``.geojson``, ``.json``), ASAP XML (``.xml``) or a label image (``.png``, ``.tif``,
            ``.tiff``).
        scheme: the classes.
        class_map: of outlines: the file's class name -> the scheme's, or None to leave it unlabelled.
        label_values: of label images: pixel value -> class name, or None; without it the values are the scheme's
            labels.

    Raises:
        AnnotationError: the file is unreadable, or has classes or values that are neither the scheme's nor mapped.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(path, "no such file", 'Check the datalist\'s "label"')
    suffix = path.suffix.lower()
    if suffix in _OUTLINES:
        return Annotations(_OUTLINES[suffix](path, scheme, class_map))
    if suffix in _IMAGES:
        return LabelImage(path, scheme, label_values)
    raise AnnotationError(
        path, f"unknown annotation format {suffix!r}", f"Known are {', '.join([*_OUTLINES, *_IMAGES])}"
    )

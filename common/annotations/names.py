"""Read the class names in an annotation file, without a scheme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .asap import named_groups
from .cvat import label_names
from .geojson import class_names
from .layers import area_names
from .read import GEOJSON_SUFFIXES, annotation_suffix
from .regions import AnnotationError
from .xml import xml_root


@dataclass(frozen=True)
class OutlineName:
    """The names of an outline, from which its class is taken.

    Args:
        candidates: its names; the first that a scheme or class_map knows is its class.
        fallback: name that is reported if none is known; None if the outline is then left out.
    """

    candidates: tuple[str, ...]
    fallback: str | None


def outline_names(path: str | Path, image: str | None = None) -> list[OutlineName]:
    """Return the names of the outlines in an annotation file, each combination once.

    A label image has none: its values are not names. Coordinates are not read; use :func:`read_annotations` to check a
    file.

    Args:
        path: the file; see :func:`read_annotations`.
        image: the slide's file name, which picks its part of a file about several slides (CVAT).

    Raises:
        AnnotationError: the file is neither GeoJSON nor XML of a known tool.
    """
    path = Path(path)
    suffix = annotation_suffix(path)
    try:
        if suffix in GEOJSON_SUFFIXES:
            return _of_one_name(class_names(path))
        if suffix in (".xml", ".annotations"):
            return _of_xml(path, image)
    except OSError as error:
        raise AnnotationError(path, f"cannot be read ({error.strerror})", "Check the file") from error
    return []


def _of_xml(path: Path, image: str | None) -> list[OutlineName]:
    root = xml_root(path)
    if root.tag == "ASAP_Annotations":
        groups = dict.fromkeys(tuple(names) for names in named_groups(root))
        return [OutlineName(names, None if names[0] == "None" else names[0]) for names in groups]
    if root.tag == "Annotations":
        return [OutlineName(names, names[-1]) for names in dict.fromkeys(map(tuple, area_names(root)))]
    if root.tag == "annotations":
        return _of_one_name(label_names(path, root, image))
    raise AnnotationError(path, f"its root is <{root.tag}>", "Export it again from ASAP, ImageScope, HALO or CVAT")


def _of_one_name(names: list[str]) -> list[OutlineName]:
    return [OutlineName((name,), name) for name in dict.fromkeys(names)]

"""Annotation files of several tools -> label maps at any µm/px."""

from .asap import write_asap_xml
from .geojson import write_geojson
from .read import read_annotations
from .regions import AnnotatedRegion, AnnotationError, Annotations, LabelSource

__all__ = [
    "AnnotatedRegion",
    "AnnotationError",
    "Annotations",
    "LabelSource",
    "read_annotations",
    "write_asap_xml",
    "write_geojson",
]

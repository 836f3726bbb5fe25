"""Annotation files of several tools -> label maps at any µm/px."""

from .asap import write_asap_xml
from .geojson import write_geojson
from .layers import write_imagescope_xml
from .read import ANNOTATION_SUFFIXES, read_annotations, region_names
from .regions import AnnotatedRegion, AnnotationError, Annotations, LabelSource
from .scope import ScopedLabels, Unannotated

__all__ = [
    "ANNOTATION_SUFFIXES",
    "AnnotatedRegion",
    "AnnotationError",
    "Annotations",
    "LabelSource",
    "ScopedLabels",
    "Unannotated",
    "read_annotations",
    "region_names",
    "write_asap_xml",
    "write_geojson",
    "write_imagescope_xml",
]

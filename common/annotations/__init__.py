"""Annotation files of several tools, read as label maps of one slide at any µm/px."""

from .asap import write_asap_xml
from .geojson import parsed_once, stated_origin, write_geojson
from .label_image import LabelImage
from .layers import write_imagescope_xml
from .names import OutlineName, outline_names
from .predicted import PredictedLabels, check_classes, label_map_mpp, written_scheme
from .read import ANNOTATION_SUFFIXES, annotation_suffix, read_annotations, region_names
from .regions import AnnotatedRegion, AnnotationError, Annotations, LabelSource, ProportionsError
from .scope import FirstLabels, ScopedLabels, Unannotated, outlines_of

__all__ = [
    "ANNOTATION_SUFFIXES",
    "AnnotatedRegion",
    "AnnotationError",
    "Annotations",
    "FirstLabels",
    "LabelImage",
    "LabelSource",
    "OutlineName",
    "PredictedLabels",
    "ProportionsError",
    "ScopedLabels",
    "Unannotated",
    "annotation_suffix",
    "check_classes",
    "label_map_mpp",
    "outline_names",
    "outlines_of",
    "parsed_once",
    "read_annotations",
    "region_names",
    "stated_origin",
    "write_asap_xml",
    "write_geojson",
    "write_imagescope_xml",
    "written_scheme",
]

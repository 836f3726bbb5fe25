"""MONAI dictionary transforms for patches of several magnifications."""

from .color import RandColorPerViewd
from .elastic import ElasticDeformationd
from .labels import LogitsToLabelsd
from .load import LoadMultiMagnificationPatchd
from .slices import RandScaledSliced

__all__ = [
    "ElasticDeformationd",
    "LoadMultiMagnificationPatchd",
    "LogitsToLabelsd",
    "RandColorPerViewd",
    "RandScaledSliced",
]

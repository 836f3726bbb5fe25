"""MONAI dictionary transforms for patches of several magnifications."""

from .center import RandCenterJitterd
from .chosen import ChosenTransforms
from .color import RandColorPerViewd
from .elastic import ElasticDeformationd
from .geometry import (
    DeformOnced,
    RandElasticd,
    RandGridDistortiond,
    RandOpticalDistortiond,
    RandRescaled,
    RandRotated,
    RandSheard,
    RandShifted,
)
from .labels import LogitsToLabelsd
from .load import LoadMultiMagnificationPatchd
from .normalize import NormalizeStainsd
from .optics import RandEmbossd, RandGaussianBlurd, RandGlassBlurd, RandMotionBlurd, RandNoised
from .slices import RandScaledSliced
from .stain import RandCLAHEd, RandGammad, RandPCAColord, RandTargetedHSVd
from .styled import RandStyledSlided

__all__ = [
    "ChosenTransforms",
    "DeformOnced",
    "ElasticDeformationd",
    "LoadMultiMagnificationPatchd",
    "LogitsToLabelsd",
    "NormalizeStainsd",
    "RandCLAHEd",
    "RandCenterJitterd",
    "RandColorPerViewd",
    "RandElasticd",
    "RandEmbossd",
    "RandGammad",
    "RandGaussianBlurd",
    "RandGlassBlurd",
    "RandGridDistortiond",
    "RandMotionBlurd",
    "RandNoised",
    "RandOpticalDistortiond",
    "RandPCAColord",
    "RandRescaled",
    "RandRotated",
    "RandScaledSliced",
    "RandSheard",
    "RandShifted",
    "RandStyledSlided",
    "RandTargetedHSVd",
]

"""MONAI dictionary transforms for patches of several magnifications. Array in, array out: opens no file."""

from ..renamed import renamed_in
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
from .optics import RandEmbossd, RandGaussianBlurd, RandGlassBlurd, RandMotionBlurd, RandNoised
from .slices import RandScaledSliced
from .stain import RandCLAHEd, RandGammad, RandPCAColord, RandTargetedHSVd

__all__ = [
    "ChosenTransforms",
    "DeformOnced",
    "ElasticDeformationd",
    "LogitsToLabelsd",
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
    "RandTargetedHSVd",
]

__getattr__ = renamed_in(__name__)

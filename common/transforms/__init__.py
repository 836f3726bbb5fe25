"""MONAI dictionary transforms for patches of several magnifications. Array in, array out: opens no file."""

from ..renamed import renamed_in
from .center import RandCenterJitterd
from .color import RandColorPerViewd
from .deform import RandDeformd
from .deformations import ElasticWarp, GridStretch, OpticalDistortion, Rotation, Scaling, Shear, Translation
from .elastic import ElasticDeformationd
from .filters import RandEmbossd, RandGaussianBlurd, RandGlassBlurd, RandMotionBlurd, RandNoised
from .labels import LogitsToLabelsd
from .select import SelectTransforms
from .slices import RandScaledSliced
from .stain import RandCLAHEd, RandGammad, RandPCAColord, RandTargetedHSVd

__all__ = [
    "ElasticDeformationd",
    "ElasticWarp",
    "GridStretch",
    "LogitsToLabelsd",
    "OpticalDistortion",
    "RandCLAHEd",
    "RandCenterJitterd",
    "RandColorPerViewd",
    "RandDeformd",
    "RandEmbossd",
    "RandGammad",
    "RandGaussianBlurd",
    "RandGlassBlurd",
    "RandMotionBlurd",
    "RandNoised",
    "RandPCAColord",
    "RandScaledSliced",
    "RandTargetedHSVd",
    "Rotation",
    "Scaling",
    "SelectTransforms",
    "Shear",
    "Translation",
]

__getattr__ = renamed_in(__name__)

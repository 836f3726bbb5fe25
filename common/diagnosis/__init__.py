"""Diagnosis of regions from label maps (Mehta et al. 2018, section 6.2)."""

from ..renamed import renamed_in
from .crossvalidation import cross_validate
from .histograms import LabelHistograms
from .regions import Division, LabelMaps, region_histograms
from .tasks import DiagnosisTask
from .workflow import Diagnosis

__all__ = [
    "Diagnosis",
    "DiagnosisTask",
    "Division",
    "LabelHistograms",
    "LabelMaps",
    "cross_validate",
    "region_histograms",
]

__getattr__ = renamed_in(__name__)

"""Diagnosis of regions from label maps (Mehta et al. 2018, section 6.2)."""

from .crossvalidation import cross_validate
from .histograms import LabelHistograms
from .regions import Division, LabelMaps, region_histograms
from .tasks import Task
from .workflow import Diagnosis

__all__ = [
    "Diagnosis",
    "Division",
    "LabelHistograms",
    "LabelMaps",
    "Task",
    "cross_validate",
    "region_histograms",
]

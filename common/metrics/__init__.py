"""Metrics of label maps and network outputs: pure functions of arrays, and ignite metrics. Writes no file."""

from ..renamed import renamed_in
from .class_curves import ClassCurves
from .confusion import SlideConfusion, confusion_matrix
from .context_reliance import ContextReliance
from .roc import SlideROC
from .segmentation import MeanIoU, MeanLoss, PrimaryOutput, bach_score, scores, seam_ratio

__all__ = [
    "ClassCurves",
    "ContextReliance",
    "MeanIoU",
    "MeanLoss",
    "PrimaryOutput",
    "SlideConfusion",
    "SlideROC",
    "bach_score",
    "confusion_matrix",
    "scores",
    "seam_ratio",
]

__getattr__ = renamed_in(__name__)

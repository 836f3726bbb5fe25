"""Handlers and workflows for training: checkpoints, progress, scores, resuming, iterations."""

from ..renamed import renamed_in
from .checkpoint_metadata import CheckpointMetadataWriter
from .handlers import (
    AdversarialProgress,
    GradientClipping,
    SaveClassCurves,
    SaveROC,
    SaveScores,
    TrainingProgress,
    WeightsLoader,
)
from .iterative import IterativeTraining
from .resume import ResumeCheckpoint

__all__ = [
    "AdversarialProgress",
    "CheckpointMetadataWriter",
    "GradientClipping",
    "IterativeTraining",
    "ResumeCheckpoint",
    "SaveClassCurves",
    "SaveROC",
    "SaveScores",
    "TrainingProgress",
    "WeightsLoader",
]

__getattr__ = renamed_in(__name__)

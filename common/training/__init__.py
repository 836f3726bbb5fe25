"""Handlers and workflows for training: checkpoints, progress, scores, resuming, iterations."""

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
from .resume import RestartPoint

__all__ = [
    "AdversarialProgress",
    "CheckpointMetadataWriter",
    "GradientClipping",
    "IterativeTraining",
    "RestartPoint",
    "SaveClassCurves",
    "SaveROC",
    "SaveScores",
    "TrainingProgress",
    "WeightsLoader",
]

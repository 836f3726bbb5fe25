"""Losses of logits and label maps, as modules."""

from ..renamed import renamed_in
from .cross_entropy import WeightedCrossEntropyLoss, l2_parameter_groups
from .multi_output import CrossEntropyDiceLoss, MultiOutputLoss

__all__ = ["CrossEntropyDiceLoss", "MultiOutputLoss", "WeightedCrossEntropyLoss", "l2_parameter_groups"]

__getattr__ = renamed_in(__name__)

"""The classes of a bundle, and the conversion of logits to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .literal import is_misread
from .renamed import renamed_in

UNLABELLED = 0
# Label in annotations of pixels left unlabelled on purpose: they stay so where unannotated pixels are of a class.
IGNORE = 255
ACTIVATIONS = ("softmax", "sigmoid")
# Value of `otherwise` for no class at all.
NO_FALLBACK = "unlabelled"

__getattr__ = renamed_in(__name__)


@dataclass(frozen=True)
class TissueClass:
    """One class.

    Args:
        name: name of the class in annotations.
        color: red, green, blue, 0–255.
        label: value in label maps, from 1.
        channel: the class's output channel; None for the class that a one-channel network predicts by the absence of
            the other.
    """

    name: str
    color: tuple[int, int, int]
    label: int
    channel: int | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "color", tuple(self.color))


def hex_color(color: Sequence[int]) -> str:
    """Return red, green and blue as ``#rrggbb``."""
    return "#" + "".join(f"{value:02x}" for value in color)


class ClassScheme:
    """The classes of a bundle.

    Args:
        classes: :class:`TissueClass`, or mappings of its fields as configs hold them; labels are 1..C without gaps.
        activation: ``"softmax"`` over the channels, or ``"sigmoid"`` of one channel.
        threshold: sigmoid probability above which a pixel is the class with a channel, else the one without. For a
            softmax with ``otherwise``, the probability that a class needs.
        skipped: name of the class that tissue masking stands for (background, normal), or None.
        unnamed_channels: output channels that name no class and are never predicted (DMMN's first, "unlabelled").
        ordinal: whether the classes are grades, from least to most severe; predictions are then also scored by their
            distance (:func:`common.metrics.bach_score`).
        otherwise: fallback class of a softmax: pixels at which no other class reaches the threshold get it, whatever
            its own probability; all others get the most probable of the other classes. ``"unlabelled"`` leaves pixels
            at which no class reaches the threshold without a label. None: the most probable class of all.

    Raises:
        ValueError: labels, channels or names do not fit together.
    """

    def __init__(
        self,
        classes: Sequence[TissueClass | Mapping[str, Any]],
        activation: str = "softmax",
        threshold: float = 0.5,
        skipped: str | None = None,
        unnamed_channels: Sequence[int] = (),
        ordinal: bool = False,
        otherwise: str | None = None,
    ) -> None:
        self.classes = tuple(c if isinstance(c, TissueClass) else TissueClass(**c) for c in classes)
        self.activation, self.threshold = activation, threshold
        self.unnamed_channels = tuple(unnamed_channels)
        self.ordinal = ordinal
        self._check()
        self.skipped = None if skipped is None else self.by_name(skipped)
        self.otherwise = otherwise
        self._otherwise_label = UNLABELLED
        if otherwise is not None and otherwise != NO_FALLBACK:
            self._otherwise_label = self.by_name(otherwise).label
        if otherwise is not None and activation != "softmax":
            raise ValueError("otherwise needs a softmax; a sigmoid's threshold decides between its two classes")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Class names by label, 1 first."""
        return [c.name for c in self.classes]

    @property
    def num_channels(self) -> int:
        """Number of output channels of a network for this scheme."""
        return sum(c.channel is not None for c in self.classes) + len(self.unnamed_channels)

    def by_name(self, name: str) -> TissueClass:
        """Return the class of that name.

        Raises:
            ValueError: there is none; the message lists the names.
        """
        for tissue_class in self.classes:
            if tissue_class.name == name:
                return tissue_class
        raise ValueError(f"no class {name!r}; the scheme has {', '.join(self.names)}")

    @property
    def positive(self) -> TissueClass:
        """Class that a sigmoid's channel stands for."""
        return next(c for c in self.classes if c.channel is not None)

    @property
    def negative(self) -> TissueClass:
        """Class that a sigmoid predicts by the absence of the other."""
        return next(c for c in self.classes if c.channel is None)

    def palette(self) -> np.ndarray:
        """Return the colour of each label, ``(256, 3)`` uint8; 0 and labels without class are white."""
        colors = np.full((256, 3), 255, dtype=np.uint8)
        for tissue_class in self.classes:
            colors[tissue_class.label] = tissue_class.color
        return colors

    def channel_def(self) -> dict[str, str]:
        """Return the name of each output channel, in the form of ``channel_def`` in ``metadata.json``."""
        names = dict.fromkeys(self.unnamed_channels, "unlabelled, never predicted")
        names.update({c.channel: c.name for c in self.classes if c.channel is not None})
        return {str(channel): names[channel] for channel in sorted(names)}

    def decision_rule(self) -> dict[str, Any]:
        """Return the settings that turn a pixel's probabilities into its label."""
        if self.otherwise is not None:
            return {"threshold": self.threshold, "otherwise": self.otherwise}
        return {"threshold": self.threshold if self.activation == "sigmoid" else None}

    def labels_from_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Return ``(B, h, w)`` uint8 label maps of ``(B, C, h, w)`` logits."""
        self._check_channels(logits)
        if self.activation == "sigmoid":
            above = torch.sigmoid(logits[:, 0].float()) > self.threshold
            return torch.where(above, self.positive.label, self.negative.label).to(torch.uint8)
        if self.otherwise is not None:
            return self.labels_from_probabilities(self.probabilities(logits))
        return (_first_largest(self._of_classes(logits)) + 1).to(torch.uint8)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return ``(B, number of classes, h, w)`` probabilities of logits, in label order; they add up to 1."""
        self._check_channels(logits)
        if self.activation == "sigmoid":
            positive = torch.sigmoid(logits[:, :1].float())
            return torch.cat([positive if c.channel is not None else 1 - positive for c in self.classes], dim=1)
        return torch.softmax(self._of_classes(logits).float(), dim=1)

    def labels_from_probabilities(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return ``(B, h, w)`` uint8 label maps of the result of :meth:`probabilities`."""
        if self.activation == "sigmoid":
            above = probabilities[:, self.positive.label - 1] > self.threshold
            return torch.where(above, self.positive.label, self.negative.label).to(torch.uint8)
        if self.otherwise is None:
            return (_first_largest(probabilities) + 1).to(torch.uint8)
        others = [c.label for c in self.classes if c.name != self.otherwise]
        best, which = probabilities[:, [label - 1 for label in others]].max(dim=1)
        labels = torch.tensor(others, dtype=torch.uint8, device=probabilities.device)[which]
        return torch.where(best >= self.threshold, labels, self._otherwise_label).to(torch.uint8)

    def target_channels(self, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
        """Return the output channel of each pixel of label maps as int64; unlabelled pixels become ``ignore_index``."""
        table = torch.full((256,), ignore_index, dtype=torch.int64)
        for tissue_class in self.classes:
            if tissue_class.channel is not None:
                table[tissue_class.label] = tissue_class.channel
        return table.to(labels.device)[labels.long()]

    def _of_classes(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the channels of the classes in label order, without a copy if they are in that order already."""
        channels = self._channels()
        first, last = channels[0], channels[-1]
        return logits[:, first : last + 1] if channels == list(range(first, last + 1)) else logits[:, channels]

    def _channels(self) -> list[int]:
        return [c.channel for c in self.classes if c.channel is not None]

    def _check_channels(self, logits: torch.Tensor) -> None:
        if logits.shape[1] != self.num_channels:
            raise ValueError(
                f"the network has {logits.shape[1]} output channels, the class scheme {self.num_channels}: "
                f"{self.channel_def()}. Set the network's out_channels or the scheme's classes"
            )

    def _check(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        labels = [c.label for c in self.classes]
        if labels != list(range(1, len(labels) + 1)) or len(labels) > 254:
            raise ValueError(f"class labels must be 1, 2, 3, … in this order, not {labels} (0 is unlabelled)")
        misread = [name for name in self.names if is_misread(name)]
        if misread:
            raise ValueError(
                f"class {misread[0]!r}: MONAI's configs read # as ::, and what begins with $, @ or % as no text. "
                "Rename the class; class_map keeps its name in annotations"
            )
        if len(set(self.names)) != len(labels):
            raise ValueError(f"two classes of one name: {', '.join(self.names)}")
        channels = sorted([*self._channels(), *self.unnamed_channels])
        if channels != list(range(len(channels))):
            raise ValueError(f"output channels must be 0, 1, 2, … once each, not {channels}")
        absent = sum(c.channel is None for c in self.classes)
        wanted = (1, 1) if self.activation == "sigmoid" else (len(channels), 0)
        if (len(channels), absent) != wanted:
            raise ValueError(
                "a sigmoid scheme has one class with channel 0 and one without a channel; in a softmax scheme every "
                "class has one"
            )


def _first_largest(channels: torch.Tensor) -> torch.Tensor:
    """Return the first channel with the largest value, ``(B, C, h, w)`` -> ``(B, h, w)`` int64."""
    # The same as argmax, which takes ten times as long over any but the last dimension on a CPU.
    return channels.max(dim=1).indices

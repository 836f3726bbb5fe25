"""All supervised outputs of a network in one tensor, for training."""

from __future__ import annotations

import torch
from torch import nn


class MultiOutput(nn.Module):
    """A network whose forward pass returns all its supervised outputs.

    Training calls the forward pass, and data-parallel training must; inference needs the final output only. Both use
    the same weights.

    Args:
        network: its ``forward_branches`` returns K outputs of one shape. A network without it has one output.

    Shape:
        the network's input -> logits ``(B, K·C, h, w)``, output by output, the final one first.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        branches = getattr(self.network, "forward_branches", None)
        return self.network(image) if branches is None else torch.cat(branches(image), dim=1)

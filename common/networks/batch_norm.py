"""Batch normalisation when several processes train one network."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also normalises in training as in evaluation."""

    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        return super().train(False)


def sync_batch_norm(network: _Network, device: torch.device, frozen: bool = False) -> _Network:
    """Make batch normalisation the same in all processes, so that they train like one process with all their patches.

    Args:
        network: the network, which is changed in place and returned.
        device: device that it trains on. On GPUs the mean and variance are those of all processes' patches (PyTorch's
            ``SyncBatchNorm``). PyTorch cannot do this on CPUs: each process then uses those of its own patches.
        frozen: keep statistics, scales and shifts unchanged instead, which works on any device.
    """
    if frozen:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
                # In place: the optimiser may hold its parameters already.
                module.__class__ = _FrozenBatchNorm2d
                module.train(False)
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if device.type == "cuda" else network

"""A plain forward pass in lower precision, on any device."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Context in which convolutions run in ``dtype``; float32 changes nothing."""
    # No cache of weights cast: it is shared by all threads and knows nothing of GPU streams, so that one stream could
    # read what another has not cast yet. A forward pass uses every weight once.
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False)


class AutocastInferer(Inferer):
    """``network(inputs)`` under autocast, logits in float32. (MONAI's ``amp`` option is for CUDA only.)

    Args:
        dtype: name of the precision: ``"bfloat16"``, ``"float16"``, or ``"float32"`` for none.
        upsampling: the logits are enlarged so many times (bilinear), to compare them with a target of finer µm/px.
    """

    def __init__(self, dtype: str = "bfloat16", upsampling: int = 1) -> None:
        super().__init__()
        self.dtype, self.upsampling = getattr(torch, dtype), upsampling

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        with autocast(inputs.device, self.dtype):
            # Channels last is what the lower precisions' convolutions are fastest in.
            logits = network(inputs.contiguous(memory_format=torch.channels_last), *args, **kwargs).float()
        if self.upsampling == 1:
            return logits
        return functional.interpolate(logits, scale_factor=self.upsampling, mode="bilinear", align_corners=False)

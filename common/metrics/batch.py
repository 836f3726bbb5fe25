"""What MONAI's engines make of a batch, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine


def of_batch(engine: Engine, key: str) -> Any:
    """One field of the engine's batch, which MONAI takes apart into a list of items."""
    batch: Any = engine.state.batch
    return batch[key] if isinstance(batch, dict) else [item[key] for item in batch]


def batched(part: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """MONAI's engines give lists of items once a batch is taken apart."""
    return part if isinstance(part, torch.Tensor) else torch.stack(list(part))

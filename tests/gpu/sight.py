"""Tell whether there is a GPU without touching it: a process that has used one cannot be copied any more."""

from __future__ import annotations

import os
from pathlib import Path


def gpu_in_sight() -> bool:
    """Return whether the machine has an NVIDIA GPU that is not hidden from this process."""
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")

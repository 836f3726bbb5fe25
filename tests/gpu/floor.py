"""The least time in which a GPU can do what is asked of it."""

from __future__ import annotations

# The slide that took Ho et al. 2021 14 min 52 s: 31,500 patches of 256 pixels at 0.5 µm/px; height and width.
LARGE = (38380, 53711)
# Operations per second in bfloat16 of an H100 or H200: large matrix products were measured at 770 to 800 TFLOP/s.
RATE = 790e12


def floor_seconds(patches: int, flops: float) -> float:
    """Return the seconds that so many patches of so many operations each take at :data:`RATE`."""
    return patches * flops / RATE

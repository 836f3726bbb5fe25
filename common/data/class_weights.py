"""Compute class weights from the numbers of labelled pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHTINGS = ("complement", "inverse", "inverse_log")


def inverse_share_weights(pixels: Sequence[float]) -> list[float]:
    """Return w_c = 1 − N_c / ΣN (Ho et al. 2021, eq. 2) from the labelled pixels N_c of each class.

    Raises:
        ValueError: there are no labelled pixels.
    """
    total = float(sum(pixels))
    if total <= 0:
        raise ValueError("no labelled pixels to take class weights from")
    return [1 - float(count) / total for count in pixels]


def class_weights(pixels: Sequence[float], weighting: str = "complement") -> list[float]:
    """Return weights against class imbalance. Class c has the probability p_c = N_c / ΣN.

    Args:
        pixels: labelled pixels N_c of each class.
        weighting: ``"complement"``: 1 − p_c (Ho et al. 2021, eq. 2); ``"inverse"``: 1 / p_c, scaled to a mean of 1
            (Mehta et al. 2018, section 6); ``"inverse_log"``: 1 / ln(1.02 + p_c) (the released code of the latter).
            With ``"inverse"``, a class without pixels has weight 0 and does not count in the mean.

    Raises:
        ValueError: unknown weighting, or no labelled pixels.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"class weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if weighting == "complement":
        return inverse_share_weights(pixels)
    total = float(sum(pixels))
    if total <= 0:
        raise ValueError("no labelled pixels to take class weights from")
    shares = [float(count) / total for count in pixels]
    if weighting == "inverse_log":
        return [1 / math.log(1.02 + share) for share in shares]
    inverse = [1 / share if share > 0 else 0.0 for share in shares]
    mean = sum(inverse) / sum(share > 0 for share in shares)
    return [weight / mean for weight in inverse]

"""Does a configuration fit together? Asked before anything long starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..classes import ClassScheme
from ..slides import FieldOfView


def check_views(
    network: nn.Module,
    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
    target: FieldOfView | Mapping[str, Any],
    scheme: ClassScheme,
    upsampling: int = 1,
) -> None:
    """Check that network, fields of view, target and classes fit each other.

    Args:
        network: whose views and output are meant.
        fields_of_view: what it gets.
        target: what it is compared with.
        scheme: the classes.
        upsampling: how many times its output is enlarged before that.

    Raises:
        ValueError: says what to change.
    """
    views = [FieldOfView.of(view) for view in fields_of_view]
    ratios = tuple(view.mpp / views[0].mpp for view in views)
    wanted = tuple(getattr(network, "views", ratios))
    name = type(network).__name__
    if len(wanted) != len(views):
        raise ValueError(
            f"{name} reads {len(wanted)} fields of view, fields_of_view has {len(views)}. Give {len(wanted)} of them"
        )
    if any(abs(ratio / want - 1) > 1e-6 for ratio, want in zip(ratios, wanted, strict=True)):
        raise ValueError(
            f"{name} reads views at {wanted} times the finest one's µm/px, fields_of_view has {ratios}. Set their "
            f"mpp to "
            f"{', '.join(f'{views[0].mpp * want:g}' for want in wanted)}"
        )
    _check_output(network, views, FieldOfView.of(target), scheme, upsampling)


def _check_output(
    network: nn.Module, views: Sequence[FieldOfView], target: FieldOfView, scheme: ClassScheme, upsampling: int
) -> None:
    """One forward pass without data or memory: shapes only."""
    from copy import deepcopy

    image = torch.empty(1, 3 * len(views), views[0].size, views[0].size, device="meta")
    with torch.no_grad():
        output = deepcopy(network).to("meta").eval()(image)
    if output.shape[1] != scheme.num_channels:
        raise ValueError(
            f"{type(network).__name__} has {output.shape[1]} output channels, the class scheme needs "
            f"{scheme.num_channels}. "
            "Set the network's num_classes to the number of classes"
        )
    height, width = (side * upsampling for side in output.shape[2:])
    mpp = views[0].mpp / upsampling
    extent = height * mpp
    if height == target.size and abs(target.extent / extent - 1) > 1e-6:
        raise ValueError(
            f"{type(network).__name__} predicts {extent:g} µm at {mpp:g} µm/px, the target spans "
            f"{target.extent:g} µm. Set the target's mpp to {mpp:g}"
            + (", the finest field of view's" if upsampling == 1 else "")
        )
    if (height, width) != (target.size, target.size):
        raise ValueError(
            f"{type(network).__name__} predicts {height} x {width} pixels, the target has {target.size}. "
            "Set the target's size, or that of the fields of view"
        )

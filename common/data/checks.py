"""Check that the parts of a configuration fit together, before anything long starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..classes import ClassScheme
from ..slides import FieldOfView

if TYPE_CHECKING:
    from .dataset import MultiMagnificationPatchDataset

logger = logging.getLogger(__name__)


def check_views(
    network: nn.Module,
    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
    target: FieldOfView | Mapping[str, Any],
    scheme: ClassScheme,
    upsampling: int = 1,
) -> None:
    """Check that a network, its fields of view, the target and the classes fit together.

    Args:
        network: the network.
        fields_of_view: its input.
        target: field of view of the labels with which its output is compared.
        scheme: the classes.
        upsampling: factor by which the output is enlarged before the comparison.

    Raises:
        ValueError: they do not fit. The message says what to change.
    """
    views = [FieldOfView.from_config(view) for view in fields_of_view]
    ratios = tuple(view.mpp / views[0].mpp for view in views)
    # A network that was written for the previous version has them as views.
    former = getattr(network, "views", None)
    needed = tuple(getattr(network, "mpp_ratios", former if isinstance(former, tuple) else ratios))
    name = type(network).__name__
    if len(needed) != len(views):
        raise ValueError(
            f"{name} reads {len(needed)} fields of view, fields_of_view has {len(views)}. Give {len(needed)} of them"
        )
    if any(abs(ratio / need - 1) > 1e-6 for ratio, need in zip(ratios, needed, strict=True)):
        raise ValueError(
            f"{name} reads views at {needed} times the finest one's µm/px, fields_of_view has {ratios}. Set their mpp "
            f"to {', '.join(f'{views[0].mpp * need:g}' for need in needed)}"
        )
    _check_output(network, views, FieldOfView.from_config(target), scheme, upsampling)


def _check_output(
    network: nn.Module, views: Sequence[FieldOfView], target: FieldOfView, scheme: ClassScheme, upsampling: int
) -> None:
    """Check the output's shape with a forward pass on the meta device, which needs neither data nor memory."""
    from copy import deepcopy

    image = torch.empty(1, 3 * len(views), views[0].size, views[0].size, device="meta")
    with torch.no_grad():
        output = deepcopy(network).to("meta").eval()(image)
    if output.shape[1] != scheme.num_channels:
        raise ValueError(
            f"{type(network).__name__} has {output.shape[1]} output channels, the class scheme needs "
            f"{scheme.num_channels}. Set the network's out_channels to $@scheme.num_channels"
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


def check_validation(
    training: MultiMagnificationPatchDataset,
    validation: MultiMagnificationPatchDataset,
    classes: Sequence[str] | None = None,
) -> None:
    """Check that the validation patches can tell a good checkpoint from a bad one.

    Args:
        training: patches from which the network learns.
        validation: patches whose score picks the checkpoint.
        classes: classes that count in the score; all by default.

    Raises:
        ValueError: validation has no class that is learnt and counts: every checkpoint would score the same.
    """
    learnt, seen = training.annotated_classes(), validation.annotated_classes()
    counted = [name for name in seen if name in learnt and (classes is None or name in classes)]
    if not counted:
        among = "" if classes is None else f" (the score counts {', '.join(classes)})"
        raise ValueError(
            f"the training slides show {', '.join(learnt)}, the validation slides {', '.join(seen)}{among}: no "
            "checkpoint could be told from another. Annotate in the validation slides what is annotated for training"
        )
    if len(counted) == 1:
        logger.warning(
            "of the classes that are learnt, the validation slides show only %s: a network that sees it everywhere "
            "would score best. Annotate a second class in them",
            counted[0],
        )

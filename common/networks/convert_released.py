"""Conversion of the checkpoints that Ho et al. released with their paper to weights of :class:`DMMNM3`.

The layout is a fact of the files, described in the published repository; none of its code is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .dmmn import DMMNM3

# Classes of output channels 1 to 6 of the released breast model, and their order in this project's breast scheme.
RELEASED_CLASSES = ("stroma", "necrotic", "carcinoma", "background", "adipose", "benign epithelial")
BREAST_CLASSES = ("carcinoma", "benign epithelial", "background", "stroma", "necrotic", "adipose")
_MAGNIFICATIONS = ("20x", "10x", "5x")
_LEVELS = 5


def load_released_dmmn(
    path: str | Path,
    released_classes: Sequence[str] = RELEASED_CLASSES,
    classes: Sequence[str] = BREAST_CLASSES,
) -> DMMNM3:
    """Read a released checkpoint as a network that takes RGB and returns logits in this project's class order.

    Two differences are folded into the weights. The released network was trained on blue, green, red: the input
    channels of the three first convolutions are reversed. Its classes have another order: the rows of the last
    convolution are moved. Otherwise it computes the same. Its slides were read with ``resample: decimate``.

    Args:
        path: the ``.pkl`` file; only its tensors are read, and no code in it runs.
        released_classes: classes of its output channels 1, 2, …; by default those of the breast model.
        classes: the same classes in the order of the returned logits.

    Raises:
        ValueError: the file does not exist or is no released DMMN-M3, or the classes do not fit.

    Source: Ho et al. 2021, Fig. 4e.
    """
    path = Path(path)
    state = _state(path)
    own: dict[str, torch.Tensor] = {}
    for released, ours in _names():
        for part in ("weight", "bias"):
            if f"{released}.{part}" not in state:
                raise ValueError(f"{path}: not a released DMMN-M3; it has no {released}.{part}")
            own[f"{ours}.{part}"] = state.pop(f"{released}.{part}")
    if state:
        raise ValueError(f"{path}: not a released DMMN-M3; it also has {next(iter(state))}")
    for magnification in _MAGNIFICATIONS:
        first = f"encoder_{magnification}.blocks.0.0.weight"
        own[first] = own[first].flip(1)
    rows = _rows(path, len(own["head.2.bias"]), released_classes, classes)
    for part in ("head.2.weight", "head.2.bias"):
        own[part] = own[part][rows]
    widths = [len(own[f"encoder_20x.blocks.{level}.0.bias"]) for level in range(_LEVELS)]
    network = DMMNM3(out_channels=len(rows), channels=widths)
    network.load_state_dict(own)
    return network.eval()


def _state(path: Path) -> dict[str, torch.Tensor]:
    if not path.exists():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or foreign pickle raises nearly anything.
        raise ValueError(f"{path}: cannot be read as weights alone ({error})") from error
    state = content.get("model_state") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f'{path}: not a released DMMN; a dictionary with "model_state" is expected')
    return {key.removeprefix("module."): value for key, value in state.items()}


def _names() -> list[tuple[str, str]]:
    """Return the released name and ours of every layer."""
    names = [("final.0", "head.0"), ("final.2", "head.2")]
    for magnification in _MAGNIFICATIONS:
        for level in range(_LEVELS):
            block = f"conv{level + 1}dn_{magnification}" if level < _LEVELS - 1 else f"center_{magnification}"
            names += [(f"{block}.{i}", f"encoder_{magnification}.blocks.{level}.{i}") for i in (0, 2)]
        for step in range(_LEVELS - 1):
            level = _LEVELS - 1 - step
            decoder = f"decoder_{magnification}"
            names.append((f"convtrans{level}_{magnification}.0", f"{decoder}.ups.{step}.0"))
            names += [(f"conv{level}up_{magnification}.{i}", f"{decoder}.blocks.{step}.{i}") for i in (0, 2)]
    return names


def _rows(path: Path, outputs: int, released_classes: Sequence[str], classes: Sequence[str]) -> list[int]:
    if outputs != len(released_classes) + 1:
        raise ValueError(
            f"{path}: {outputs} output channels, the first of them unlabelled, for {len(released_classes)} classes. "
            "Name the classes of its channels with released_classes"
        )
    if sorted(classes) != sorted(released_classes):
        raise ValueError(f"{path}: its classes are {', '.join(released_classes)}, not {', '.join(classes)}")
    return [0, *(released_classes.index(name) + 1 for name in classes)]

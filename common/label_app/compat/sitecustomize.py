"""Make torchvision importable next to a CPU build of torch.

Not every build of torch has a torchvision. If torchvision's library does not load, its import fails on two operators
that MONAI Label never calls. Python runs this file at start when its folder is on PYTHONPATH.
"""

import importlib.util
from pathlib import Path

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[object] = []


def declare_operators() -> None:
    """Declare the operators if torchvision's own library cannot."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    import torch

    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        # Operators are removed together with their library.
        _KEPT.append(library)


declare_operators()

"""Check the values of a request: they have the types declared here, and name slides by their ids.

MONAI evaluates text that begins with ``$`` or ``@`` in a config as an expression. So only values that were cast here
reach a config, a path or a command; undeclared keys are left out.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_DEVICE = re.compile(r"(cpu|mps|cuda(?::\d{1,3})?)(?![\w:])")
_GPUS = re.compile(r"all|\d{1,3}(?:,\d{1,3})*")
_OUTPUTS = ("asap", "dsa", "json")
_MODEL = "model.pt"

Cast = Callable[[Any], Any]


class RequestError(ValueError):
    """A request holds a value that is not allowed; the message names the key and its allowed values."""


def _integer(low: int, high: int) -> Cast:
    def cast(value: Any) -> int:
        number = _finite(value)
        if number != int(number) or not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(number)

    return cast


def _number(low: float, high: float) -> Cast:
    def cast(value: Any) -> float:
        number = _finite(value)
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return number

    return cast


def _finite(value: Any) -> float:
    """Return a number that is given as a number or as text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number") from None
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _boolean(value: Any) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None or not isinstance(value, bool | int | str):
        raise ValueError("true or false")
    return found


def _choice(value: Any) -> Any:
    """Return the first of a list of options: viewers send back the whole list, the chosen option first."""
    return value[0] if isinstance(value, list) and value else value


def gpu_names() -> list[str]:
    """Return the names of this machine's GPUs, in the order of their numbers."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def devices_by_name(names: Sequence[str]) -> dict[str, str]:
    """Return the devices by their names in MONAI Label's list: the GPU's name, with its number if there are several.

    Args:
        names: names of the GPUs, in the order of their numbers.
    """
    if len(names) == 1:
        return {names[0]: "cuda"}
    return {f"{name}:{number}": f"cuda:{number}" for number, name in enumerate(names)}


def _device(value: Any) -> str:
    text, names = str(_choice(value)).strip(), gpu_names()
    by_name, found = devices_by_name(names), _DEVICE.match(text)
    if text in by_name:
        return by_name[text]
    # Without a GPU everything runs on the CPU, whatever device a viewer sends.
    there = ["cpu", "cuda", *(f"cuda:{number}" for number in range(len(names)))] if names else None
    if found is not None and (there is None or found.group(1) in there):
        return found.group(1)
    raise ValueError(", ".join(there or ("cpu", "cuda", "cuda:NUMBER", "mps")) + "".join(f", {one}" for one in by_name))


def _gpus(value: Any) -> str:
    if not isinstance(value, str) or not _GPUS.fullmatch(value):
        raise ValueError("all, or numbers of GPUs with commas")
    return value


def _own_checkpoint(value: Any) -> str:
    if _choice(value) != _MODEL:
        raise ValueError(_MODEL)
    return _MODEL


def _output(value: Any) -> str:
    if value not in _OUTPUTS:
        raise ValueError(f"one of {', '.join(_OUTPUTS)}")
    return str(value)


def _origin(value: Any) -> str:
    if _choice(value) not in ("slide", "bounds"):
        raise ValueError("slide or bounds")
    return str(_choice(value))


def _name(value: Any) -> str:
    return checked_name(value, "a name")


def _pair(value: Any) -> list[int]:
    cast = _integer(0, 2**31 - 1)
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError("two whole numbers")
    return [cast(one) for one in value[:2]]


_MPP = _number(0.05, 100)
_INFERENCE_VALUES: dict[str, Cast] = {
    "model": _name,
    "mpp": _MPP,
    "series": _integer(0, 10**6),
    "location": _pair,
    "size": _pair,
    "min_poly_area": _number(0, 1e12),
    "device": _device,
    "output": _output,
    "origin": _origin,
}
# Settings of train.yaml that a request may give.
TRAINING_SETTINGS: dict[str, Cast] = {
    "samples_per_epoch": _integer(1, 10**8),
    "batch_size": _integer(1, 10**4),
    "learning_rate": _number(0, 100),
    "num_workers": _integer(0, 256),
    "val_interval": _integer(1, 10**6),
    "min_labelled": _number(0, 10**9),
    "seed": _integer(0, 2**32 - 1),
}
_TRAINING_VALUES: dict[str, Cast] = {
    **TRAINING_SETTINGS,
    "model": _name,
    "mpp": _MPP,
    "series": _integer(0, 10**6),
    "max_epochs": _integer(1, 10**6),
    # -1 leaves the validation slides to the bundle.
    "val_split": _number(-1, 0.99),
    "pretrained": _boolean,
    "multi_gpu": _boolean,
    "force_multi_gpu": _boolean,
    "multi_node": _boolean,
    "gpus": _gpus,
    "device": _device,
    "model_filename": _own_checkpoint,
    "origin": _origin,
}


def inference_values(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a request for a prediction, cast to their types, without its image.

    Raises:
        RequestError: a value has another type or is out of range.
    """
    return _cast(request, _INFERENCE_VALUES)


def training_values(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a request for a training, cast to their types.

    Raises:
        RequestError: a value has another type or is out of range.
    """
    return _cast(request, _TRAINING_VALUES)


def _cast(request: Mapping[str, Any], declared: Mapping[str, Cast]) -> dict[str, Any]:
    found = {}
    for key, cast in declared.items():
        # Viewers send empty values for options that nobody chose.
        if request.get(key) in (None, "", []):
            continue
        try:
            found[key] = cast(request[key])
        except ValueError as error:
            raise RequestError(f"{key} is {request[key]!r:.80}; give {error}") from error
    unused = sorted(str(key) for key in request if key not in declared and key != "image")
    if unused:
        logger.info("not used of the request: %s", ", ".join(f"{key!r:.40}" for key in unused[:20]))
    return found


def checked_name(value: Any, what: str = "the id of an image") -> str:
    """Return the id of an image or label, or a tag, after checking that it can be a file name.

    Raises:
        RequestError: the value is not a plain name, and as a path could lead out of the studies' folder.
    """
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or not 0 < len(value) <= 200
        or value.startswith(".")
        or set(value) & set("/\\:")
    ):
        raise RequestError(f"{value!r:.80} is not {what}: give a name without slashes, colons or a leading dot")
    return value


def slide_of(image: Any, uri_of: Callable[[str], str], studies: str | Path) -> str:
    """Return the path of a slide, which lies directly in the studies' folder.

    A link there is followed: only the owner of the folder can create one.

    Args:
        image: the slide's id, never a path.
        uri_of: function that returns a slide's path for its id, or an empty text.
        studies: the folder.

    Raises:
        RequestError: the value is no id, or no slide in that folder has it.
    """
    name = checked_name(image)
    path = uri_of(name)
    links = {entry.resolve() for entry in Path(studies).iterdir() if entry.name.startswith(name)}
    if not path or Path(path).resolve() not in links or not Path(path).exists():
        raise RequestError(f"There is no slide {name!r}")
    return path

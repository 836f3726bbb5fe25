"""Compare the settings of two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .renamed_keys import recorded


class SettingsError(ValueError):
    """A folder holds results of other settings than the requested ones."""

    retryable = False


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise :class:`SettingsError`, naming each difference, if two runs' settings differ."""
    found = differences(before, now)
    if found:
        raise SettingsError(
            f"{folder} holds the result of other settings: {'; '.join(found)}. Choose another output folder, or start "
            "over with --overwrite True"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two runs' settings, a sentence each; renamed ones are the same."""
    now = json.loads(json.dumps(now))
    then, here = _flat(recorded(before, now)), _flat(now)
    return [
        f"{key} is {_shown(then, key)} there, {_shown(here, key)} now"
        for key in dict.fromkeys([*then, *here])
        if then.get(key) != here.get(key) or (key in then) != (key in here)
    ]


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "not set"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    else:
        return {name: value}
    return {key: found for part_name, part in items for key, found in _flat(part, part_name).items()}

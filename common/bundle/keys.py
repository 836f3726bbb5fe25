"""Check keys against a bundle's configs. Only YAML is read: a misspelt key is refused before anything is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ..renamed_keys import CONFIGS, spelling, translated, translated_overlay
from .find import find_bundle

logger = logging.getLogger(__name__)

_SEPARATOR = re.compile("#|::")
_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*)")


def config_files(bundle: str | Path, configs: Sequence[str]) -> list[Path]:
    """Return the paths of a bundle's configs.

    Args:
        bundle: the bundle's folder or name; see :func:`find_bundle`.
        configs: file names in its ``configs/``, or paths of your own overlays.

    Raises:
        ValueError: there is no such bundle or config; the message names the nearest one.
    """
    folder = find_bundle(bundle) / "configs"
    return [_config_file(folder, name) for name in configs]


def _config_file(folder: Path, name: str) -> Path:
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path
    renamed = CONFIGS.get(name) or next((old for old, new in CONFIGS.items() if new == name), name)
    if (folder / renamed).is_file():
        logger.warning("%s is called %s in %s", name, renamed, folder.parent.name)
        return folder / renamed
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))
    near = get_close_matches(name, there, 1, 0.5)
    hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(there)}"
    raise ValueError(f"{name}: no such config, nor one of that name in {folder}.{hint}")


def merged_configs(files: Iterable[Path]) -> dict[str, Any]:
    """Return the top-level keys of configs, later ones over earlier ones.

    Keys of overlays that reach into others (``validate#data#section``) keep their spelling. Keys of the previous
    version get their new names.

    Raises:
        ValueError: a file is not a YAML mapping, or has a key by both its names.
    """
    merged: dict[str, Any] = {}
    for path in files:
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f", line {where.line + 1}" if where is not None else ""
            raise ValueError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from error
        if not isinstance(content, Mapping):
            raise ValueError(f"{path}: a config must be a YAML mapping of keys")
        content = {str(key): value for key, value in content.items()}
        content = translated_overlay(content, merged, _ignore, path.name)
        merged.update({key.lstrip("+~"): value for key, value in content.items()})
    return merged


def _ignore(message: str) -> None:
    """Take a message that is given once, when the config is loaded."""


def current_settings(files: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the names that the configs have for their keys; a warning says which were renamed.

    Raises:
        ValueError: a key is given by both its names.
    """
    return translated(settings, merged_configs(files), logger.warning)


def check_keys(files: Sequence[Path], keys: Iterable[str], reserved: Iterable[str] = ()) -> None:
    """Check that the configs know every key.

    Args:
        files: the configs, later ones over earlier ones.
        keys: keys to be set, or places in them (``validate#evaluator#device``).
        reserved: further names to suggest, such as the options of a command.

    Raises:
        ValueError: no config knows a key; the message names it and the nearest known one.
    """
    content = merged_configs(files)
    for key in keys:
        if key in content or _reaches(content, _SEPARATOR.split(key)):
            continue
        names = [*(name for name in content if not _SEPARATOR.search(name)), *reserved]
        root = _SEPARATOR.split(key)[0]
        near = get_close_matches(root, names, 1, 0.5)
        what = f"no place {key!r}" if root in content else f"no key {key!r}"
        hint = f" Did you mean {near[0]}?" if near and near[0] != root else ""
        raise ValueError(f"{', '.join(path.name for path in files)}: {what}.{hint}")


def checked_settings(files: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the configs' types: text with commas becomes a list if a config has a list.

    Raises:
        ValueError: an option has no value, or is not a number although the configs have one.
    """
    content = merged_configs(files)
    checked = dict(settings)
    for key, value in settings.items():
        default = content.get(key)
        expression = isinstance(value, str) and value.startswith(("$", "@", "%"))
        if value is True and not isinstance(default, bool):
            raise ValueError(f"--{key} needs a value")
        if isinstance(default, int | float) and not isinstance(default, bool) and not expression:
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"--{key} must be a number, not {value!r}")
        elif isinstance(default, list) and isinstance(value, str) and not expression:
            checked[key] = value.split(",")
    return checked


def known_settings(
    bundle: str | Path, configs: Sequence[str], settings: Mapping[str, Any], reserved: Iterable[str] = ()
) -> dict[str, Any]:
    """Check settings against a bundle's configs and return them; see :func:`check_keys`, :func:`checked_settings`.

    Raises:
        ValueError: there is no such bundle or config, or a key or value does not fit the configs.
    """
    files = config_files(bundle, configs)
    settings = current_settings(files, settings)
    check_keys(files, settings, reserved)
    return checked_settings(files, settings)


def check_overlays(bundle: Path, files: Sequence[Path]) -> None:
    """Check that the bundle's configs know every key of overlays from outside the bundle, or an overlay uses it.

    Raises:
        ValueError: a key is unknown; the message names it, the overlay and the nearest known key.
    """
    folder = (bundle / "configs").resolve()
    own = [path for path in files if not path.resolve().is_relative_to(folder)]
    if not own:
        return
    known = set(merged_configs(sorted(folder.rglob("*.yaml"))))
    used = {name for path in own for name in _REFERENCE.findall(path.read_text(encoding="utf-8"))}
    for path in own:
        for key in merged_configs([path]):
            root = spelling(_SEPARATOR.split(key)[0], known)
            if root in known | used:
                continue
            near = get_close_matches(root, known, 1, 0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{path}: no config of {bundle.name} knows or uses the key {root!r}.{hint}")


def _reaches(content: Any, parts: Sequence[str]) -> bool:
    """Return whether a place is in a config; references are not followed."""
    for part in parts:
        if isinstance(content, Mapping) and part in content:
            content = content[part]
        elif isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        else:
            return False
    return True


def checkpoint_of(files: Sequence[Path], bundle: Path) -> Path | None:
    """Return the checkpoint that configs name; None if they compute the name other than relative to their bundle."""
    value = merged_configs(files).get("checkpoint")
    if not isinstance(value, str):
        return None
    if not value.startswith("$"):
        return Path(value)
    found = re.fullmatch(r"\$@bundle_root \+ '/?([^']+)'", value)
    return bundle / found.group(1) if found else None

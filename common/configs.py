"""Parts of a bundle's configuration, for commands that are not runs of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def bundle_parser(bundle: str | Path, configs: Sequence[str]) -> ConfigParser:
    """A bundle's configs, later ones laid over earlier ones.

    Args:
        bundle: its folder.
        configs: file names in its ``configs/``, or paths of one's own overlays.

    Raises:
        ValueError: a config is missing.
    """
    return ConfigParser(ConfigParser.load_config_files([str(path) for path in config_files(bundle, configs)]))


def config_files(bundle: str | Path, configs: Sequence[str]) -> list[Path]:
    """Paths of a bundle's configs; see :func:`bundle_parser`."""
    folder = Path(bundle) / "configs"
    files = [folder / name if (folder / name).exists() else Path(name) for name in configs]
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise ValueError(f"{missing[0]}: no such config, nor one of that name in {folder}")
    return files


def bundle_settings(bundle: str | Path, configs: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """Resolved values of ``keys`` in a bundle's configs; see :func:`bundle_parser`.

    Raises:
        ValueError: a config is missing, or has not the key.
    """
    parser = bundle_parser(bundle, configs)
    absent = [key for key in keys if key not in parser]
    if absent:
        raise ValueError(f"{', '.join(map(str, config_files(bundle, configs)))}: no {absent[0]!r} in it")
    return {key: parser.get_parsed_content(key) for key in keys}

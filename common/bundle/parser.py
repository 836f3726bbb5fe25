"""Read parts of a bundle's configs, for commands that do not run it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from ..literal import literal
from ..renamed_keys import translated_overlay
from .find import find_bundle
from .keys import config_files

logger = logging.getLogger(__name__)


def load_configs(files: Sequence[Path]) -> dict[str, Any]:
    """Return the content of configs, later ones laid over earlier ones as MONAI does.

    Keys of the previous version get their new names, with a warning.

    Raises:
        ValueError: an overlay has a key by both its names.
    """
    parser = ConfigParser({})
    for path in files:
        content = ConfigParser.load_config_file(path)
        for key, value in translated_overlay(content, parser.get(), logger.warning, path.name).items():
            merge_kv(parser, key, value)
    return parser.get()


def bundle_parser(bundle: str | Path, configs: Sequence[str]) -> ConfigParser:
    """Return the parser of a bundle's configs, later ones over earlier ones.

    Args:
        bundle: the bundle's folder or name; see :func:`find_bundle`.
        configs: file names in its ``configs/``, or paths of your own overlays.

    Raises:
        ValueError: there is no such bundle or config.
    """
    folder = find_bundle(bundle)
    parser = ConfigParser(load_configs(config_files(folder, configs)))
    # Configs name files relative to the bundle; the default, ".", would mean the current folder.
    parser["bundle_root"] = literal(str(folder))
    return parser


def bundle_settings(bundle: str | Path, configs: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """Return the resolved values of ``keys`` in a bundle's configs; see :func:`bundle_parser`.

    Raises:
        ValueError: there is no such bundle or config, or no config has the key.
    """
    parser = bundle_parser(bundle, configs)
    absent = [key for key in keys if key not in parser]
    if absent:
        raise ValueError(f"{', '.join(map(str, config_files(bundle, configs)))}: no {absent[0]!r} in it")
    return {key: parser.get_parsed_content(key) for key in keys}

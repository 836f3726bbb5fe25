"""Fill in ``configs/metadata.json`` of an exported bundle from options, configs and installed packages."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

_COLORS = ("red", "green", "blue")
# Packages that `python -m monai.bundle run` needs besides MONAI.
_RUN_PACKAGES = ("fire", "pytorch-ignite", "pyyaml")
# Packages whose versions have keys of their own.
_OWN_KEYS = frozenset({"monai", "torch", "numpy"})
_VERSION = re.compile(r"\d+(\.\d+)*([-.+]?[A-Za-z0-9]+)*")


def filled_metadata(
    declared: Mapping[str, Any],
    parser: ConfigParser,
    modules: Sequence[Path],
    name: str,
    trained_on: str,
    own: ConfigParser,
    release: str | None = None,
    changes: str | None = None,
) -> dict[str, Any]:
    """Return a bundle's metadata, updated for the export.

    Args:
        declared: the bundle's metadata.
        parser: its ``inference.yaml`` with overlays merged.
        modules: Python files that the export carries.
        name: name of the exported bundle.
        trained_on: sentence on the slides that the weights were trained on.
        own: the bundle's own ``inference.yaml``.
        release: version number; by default the bundle's.
        changes: description of what is new; required if the bundle's changelog does not have the version.

    Raises:
        ValueError: ``release`` is no version, or is missing from the changelog.
    """
    release = str(release) if release is not None else declared["version"]
    if not _VERSION.fullmatch(release):
        raise ValueError(f"{release!r} is no version: give --version as 1.2.0")
    changelog = dict(declared["changelog"])
    if changes:
        changelog = {release: changes, **changelog}
    if release not in changelog:
        raise ValueError(f"version {release} is not in the changelog: say with --changes what is new in it")
    required = {*declared["required_packages_version"], *_RUN_PACKAGES, *_distributions(modules)}
    return {
        **declared,
        "name": name,
        "version": release,
        "changelog": changelog,
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {key: _version(key) for key in sorted(required)},
        "data_source": trained_on,
        **_descriptions(declared, parser, own),
        "network_data_format": _data_format(declared["network_data_format"], parser),
    }


def _descriptions(declared: Mapping[str, Any], parser: ConfigParser, own: ConfigParser) -> dict[str, str]:
    """Return plain descriptions if overlays, with another network, views or classes, made the bundle's own untrue."""
    one, other = (
        (p["network_def"].get("_target_"), p.get_parsed_content("fields_of_view"), p.get_parsed_content("scheme").names)
        for p in (parser, own)
    )
    if one == other:
        return {}
    network, views, classes = one[0].split(".")[-1], one[1], ", ".join(one[2])
    seen = " and ".join(dict.fromkeys(f"{view['mpp']}" for view in views))
    return {
        "task": f"Segmentation of whole slide images into {classes}",
        "description": f"{network}: {classes}, from {len(views)} field(s) of view at {seen} micrometres per pixel. "
        f"A variant of the bundle {declared['name']}.",
        "image_classes": f"RGB microscopy at {seen} micrometres per pixel",
    }


def _version(package: str) -> str:
    try:
        # Without the local part, which only describes the build.
        return version(package).split("+")[0]
    except PackageNotFoundError as error:
        raise ValueError(f"{package} is not installed here, so its version cannot be said. Install it") from error


def _distributions(modules: Sequence[Path]) -> set[str]:
    """Return the packages that the modules need to be imported; imports inside functions are optional."""
    names = set()
    for module in modules:
        for node in _imports(ast.parse(module.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif not node.level and node.module:
                names.add(node.module.split(".")[0])
    known = packages_distributions()
    found = {known[name][0] for name in names - set(sys.stdlib_module_names) if name in known}
    return {package.lower() for package in found} - _OWN_KEYS


def _imports(statements: Sequence[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    return [statement for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]


def _data_format(declared: Mapping[str, Any], parser: ConfigParser) -> dict[str, Any]:
    views, target, scheme = (parser.get_parsed_content(key) for key in ("fields_of_view", "target", "scheme"))
    image, pred = declared["inputs"]["image"], declared["outputs"]["pred"]
    # Without steps that are fitted to each slide: they change colours, not the range.
    preprocessed = parser.get_parsed_content("scale_intensity")({"image": _extremes(len(views))})["image"]
    channels = scheme.channel_def()
    return {
        **declared,
        "inputs": {
            "image": {
                **image,
                "num_channels": 3 * len(views),
                "spatial_shape": [int(views[0]["size"])] * 2,
                "value_range": [round(float(preprocessed.min()), 6), round(float(preprocessed.max()), 6)],
                "channel_def": _view_channels(views, image["channel_def"]),
            }
        },
        "outputs": {
            "pred": {
                **pred,
                "num_channels": len(channels),
                "spatial_shape": [int(target["size"])] * 2,
                "channel_def": channels,
            }
        },
    }


def _extremes(views: int) -> torch.Tensor:
    return torch.tensor([0.0, 255.0]).expand(3 * views, 1, 2).clone()


def _view_channels(views: Sequence[Mapping[str, Any]], declared: Mapping[str, str]) -> dict[str, str]:
    """Return colour and µm/px of each channel, in the bundle's own words where these still hold."""
    found = {}
    for number, view in enumerate(views):
        for place, color in enumerate(_COLORS):
            key, text = str(3 * number + place), f"{color} at {view['mpp']} micrometres per pixel"
            before = declared.get(key, "")
            found[key] = before if before == text or before.startswith(f"{text},") else text
    return found

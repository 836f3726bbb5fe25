"""Find bundles by name or folder. Imports nothing slow, so that commands can check names before they load anything."""

from __future__ import annotations

import json
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from ..files import sha256

# Installed, the bundles are a package of this name; see bundles/__init__.py.
_PACKAGE = "multimag"
_METADATA = Path("configs") / "metadata.json"


def bundles_folder() -> Path:
    """Return the folder that holds the bundles: the checkout's, else the installed package's.

    Raises:
        ValueError: neither is there.
    """
    checkout = Path(__file__).resolve().parents[2] / "bundles"
    if (checkout / "clash.py").is_file():
        return checkout
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError("the bundles are not installed. Install multimag again, or name a bundle's folder")
    return Path(found.submodule_search_locations[0])


def known_bundles() -> dict[str, Path]:
    """Return the folders of the bundles that come with MultiMag, by name."""
    return {path.parents[1].name: path.parents[1] for path in sorted(bundles_folder().glob(f"*/{_METADATA}"))}


def short_name(bundle: str) -> str:
    """Return a bundle's name without the parts that all have: ``pathology_dmmn_segmentation`` -> ``dmmn``."""
    return bundle.removeprefix("pathology_").removesuffix("_segmentation")


def find_bundle(name_or_path: str | Path) -> Path:
    """Return a bundle's folder.

    Args:
        name_or_path: a folder with ``configs/metadata.json``, or the full or short name (``dmmn``) of a bundle that
            comes with MultiMag.

    Raises:
        ValueError: there is no such bundle; the message names the nearest one.
    """
    path = Path(name_or_path)
    if (path / _METADATA).is_file():
        return path
    known = known_bundles()
    by_name = {**known, **{short_name(name): folder for name, folder in known.items()}}
    name = str(name_or_path)
    if name in by_name:
        return by_name[name]
    if path.suffix == ".zip" and path.is_file():
        raise ValueError(f"{path}: a bundle has to be unpacked first. Name the folder that it unpacks to")
    if path.is_dir():
        raise ValueError(f"{path} is not a bundle: it has no {_METADATA.as_posix()}")
    near = get_close_matches(name, by_name, 1, 0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    listed = ", ".join(short_name(one) for one in known)
    raise ValueError(f"{name}: no such bundle, neither a folder nor one of {listed}.{hint}")


def trained_as(checkpoint: str | Path) -> tuple[str | None, list[str]]:
    """Return the bundle and the overlays that a checkpoint was trained with, from the JSON file next to it.

    They are None and empty if the file does not name them, or describes other weights.
    """
    path = Path(checkpoint).with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("sha256") != sha256(checkpoint):
            return None, []
    except (OSError, ValueError, RecursionError):
        # Missing is common; a damaged file is reported when the weights are loaded.
        return None, []
    bundle, overlays = content.get("bundle"), content.get("overlays")
    overlays = overlays if isinstance(overlays, list) else []
    return bundle if isinstance(bundle, str) else None, [name for name in overlays if isinstance(name, str)]


def listed_bundles() -> str:
    """Return a table of the bundles that come with MultiMag: name, weights, folder and task."""
    lines = []
    for name, folder in known_bundles().items():
        metadata = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
        weights = sorted(path.name for path in (folder / "models").glob("*.pt"))
        lines += [
            f"{short_name(name)}: {metadata['task']}",
            f"    weights: {', '.join(weights) or 'none yet'}",
            f"    folder:  {folder}",
        ]
    return "\n".join(lines)

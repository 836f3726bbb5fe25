"""Check a bundle without running anything that is in it.

Each check takes the bundle's folder, and a list that it adds notes to: facts that are not wrong but worth knowing. It
yields problems.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors import safe_open

from ..errors import UnreadableFileError
from ..networks.checkpoint_metadata import metadata_path, read_checkpoint_metadata
from ..networks.checkpoints import read_state
from .archive import CHECKSUMS, check_checksums, files_of, is_of_a_bundle, left_out_of
from .closure import NAME, named_in, needed_modules
from .export import LARGE_FILES, LARGEST
from .model_card import UNSPECIFIED
from .model_files import MODEL_KINDS, check_model_file
from .readable import Check
from .settings import SCRIPTS, strings_in
from .texts import read_code, read_settings, read_text

_WANTED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.yaml",
    "configs/train.yaml",
    "configs/evaluate.yaml",
    "configs/multi_gpu_train.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)
# Keys of the Model Zoo's metadata schema -> type.
_TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
_METADATA: dict[str, type] = {
    **dict.fromkeys((*_TEXTS, "authors", "copyright"), str),
    **dict.fromkeys(("required_packages_version", "network_data_format", "changelog"), dict),
}
_TENSOR: dict[str, Any] = {
    "type": str,
    "format": str,
    "num_channels": int,
    "spatial_shape": list,
    "dtype": str,
    "value_range": list,
    "channel_def": dict,
}
_SETTING_KINDS = {".yaml", ".yml", ".json"}
_TEXT_KINDS = {".py", ".conf", ".md", ".txt", ".csv", ".svg", *_SETTING_KINDS}
# Paths of one machine: a bundle's own are below bundle_root.
_ABSOLUTE = re.compile(
    r"(?:(?<![\w.:/*-])/(?:home|Users|Volumes|root|mnt|media|data|srv|scratch|nfs|gpfs|projects|workspace|work|tmp|opt|var|private)/[\w./-]+"
    r"|(?<![\w])[A-Za-z]:\\\\?[\w.\\-]+|\bfile://\S+)"
)


def files(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that every file of a bundle is there, and nothing else."""
    for name in _WANTED:
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            yield f"{name} is missing or empty. {_remedy_for(name)}"
    there = files_of(folder)
    for path in there:
        if (folder / path).is_symlink() or not is_of_a_bundle(path):
            yield f"{path}: a link, or no kind of file that a bundle is made of. Remove it"
    large = {path.as_posix() for path in there if (folder / path).stat().st_size > LARGEST}
    listed = {str(entry.get("path")): entry for entry in _large_files(folder)}
    for name in sorted(large - set(listed)):
        yield f"{name} is above 25 MB, and {LARGE_FILES} does not list it. Export the bundle with this project's export"
    for name in sorted(large & set(listed)):
        if not listed[name].get("url"):
            notes.append(f"{LARGE_FILES} gives no address for {name}, which the Model Zoo wants: --large_files_url")


def _remedy_for(name: str) -> str:
    return "Export the bundle with its checkpoint" if name.startswith("models/") else "Add it, or export again"


def _large_files(folder: Path) -> list[dict[str, Any]]:
    if not (folder / LARGE_FILES).is_file():
        return []
    content = read_settings(folder / LARGE_FILES)
    listed = content.get("large_files") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError(f"{LARGE_FILES}: must hold large_files, a list of path, url, hash_val and hash_type")
    return listed


def sums(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that every file is the one that was exported."""
    if not check_checksums(folder):
        notes.append(f"no {CHECKSUMS}: changes to the files since the export cannot be detected")
    for name in left_out_of(folder):
        notes.append(f"{name} is no part of the bundle: not checked, and not among the checksums")
    yield from ()


def weights(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that weights and programs are what their names say, that loading them runs no code, and that both files of
    weights hold the same."""
    found = [path for path in files_of(folder) if path.suffix in MODEL_KINDS]
    problems = [problem for path in found for problem in _refusal(folder / path)]
    if problems:
        yield from problems
        return
    programs = [path.as_posix() for path in found if path.suffix in (".ts", ".pt2", ".onnx")]
    if programs:
        notes.append(f"{', '.join(programs)}: what such programs compute once they run is not checked")
    safetensors = Path("models") / "model.safetensors"
    if safetensors not in found:
        notes.append("no models/model.safetensors, which some hubs ask for")
    elif not _same_weights(folder / "models" / "model.pt", folder / safetensors):
        yield "models/model.pt and models/model.safetensors hold different weights. Export the bundle again"


def _refusal(path: Path) -> Iterator[str]:
    try:
        check_model_file(path)
    except (UnreadableFileError, ValueError) as error:
        yield str(error)


def _same_weights(checkpoint: Path, safetensors: Path) -> bool:
    state = read_state(checkpoint)
    with safe_open(safetensors, "pt") as file:
        return set(file.keys()) == set(state) and all(
            value.shape == torch.Size(file.get_slice(name).get_shape()) and torch.equal(value, file.get_tensor(name))
            for name, value in state.items()
        )


def weights_metadata(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that ``model.json`` says what the weights are for, and describes these weights."""
    model = folder / "models" / "model.pt"
    if not metadata_path(model).is_file():
        notes.append("no models/model.json: what the weights are for is not said")
        return
    if not model.is_file():
        return
    described = read_checkpoint_metadata(model)
    if described is None:
        yield "models/model.json describes other weights than models/model.pt. Export the bundle again"
    elif described.synthetic:
        notes.append(str(described.note))


def metadata(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check the keys and types of the Model Zoo's schema, the changelog, and that every package has a version."""
    declared = read_settings(folder / "configs" / "metadata.json")
    untyped = [f"configs/metadata.json: {problem}" for problem in _of_types(declared, _METADATA)]
    yield from untyped
    if untyped:
        return
    if declared.get("version") not in declared.get("changelog", {}):
        yield "configs/metadata.json: the version is not in the changelog. Say there what is new in it"
    if declared.get("name", folder.name) != folder.name:
        notes.append(
            f"its name is {declared['name']}, the folder's is {folder.name}; the Model Zoo wants both to be one"
        )
    for package, number in declared.get("required_packages_version", {}).items():
        if not re.fullmatch(r"\d[\w.+!-]*", str(number)):
            yield f"configs/metadata.json: required_packages_version: {package} has no version. Give one"
    formats = declared.get("network_data_format", {})
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        tensor = formats.get(side, {}).get(name)
        where = f"configs/metadata.json: network_data_format: {side}: {name}"
        yield from (f"{where}: {problem}" for problem in _of_types(tensor, _TENSOR))
    if declared.get("data_source") == UNSPECIFIED:
        notes.append("what the weights were trained on is not said: export with --trained_on")


def _of_types(declared: Any, wanted: dict[str, type]) -> Iterator[str]:
    if not isinstance(declared, dict):
        yield "is missing or no object. Write it"
        return
    for key, kind in wanted.items():
        if not isinstance(declared.get(key), kind):
            yield f"{key} is missing or no {kind.__name__}. Write it"


def paths(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that no text names a path of somebody's machine."""
    for path in files_of(folder):
        if path.suffix not in _TEXT_KINDS:
            continue
        if path.suffix in _SETTING_KINDS:
            for value in strings_in(read_settings(folder / path)):
                if PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive or value.startswith("~"):
                    yield f"{path}: {value} is a place on one machine. Use a path below @bundle_root"
        for number, line in enumerate(read_text(folder / path).splitlines(), 1):
            for found in _ABSOLUTE.findall(line):
                yield f"{path}, line {number}: {found} is a place on one machine. Use a path below @bundle_root"


def code(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that the bundle carries the modules that its configs name, and those that these import."""
    configs = [path for path in sorted((folder / "configs").rglob("*")) if path.suffix in _SETTING_KINDS]
    texts = {path: read_text(path) for path in configs}
    for path, text in texts.items():
        where = path.relative_to(folder)
        own = sorted(named_in([text]))
        if own:
            yield f"{where}: names {NAME}.{own[0]} ({len(own)} such), which only this project has. Export the bundle"
        content = read_settings(path) or {}
        if not isinstance(content, dict):
            yield f"{where}: not a mapping of a config's keys. Correct it"
            continue
        for key in ("imports", "initialize"):
            if any(f"{SCRIPTS}." in line for line in strings_in(content.get(key, ""))):
                yield f"{where}: {key} names {SCRIPTS}, which is not importable yet then. Name it in run"
    named = named_in(text.replace(f"{SCRIPTS}.", f"{NAME}.") for text in texts.values())
    if named and not (folder / SCRIPTS).is_dir():
        yield f"no folder {SCRIPTS}. Export the bundle"
        return
    needed_modules(named, folder / SCRIPTS)
    for path in sorted((folder / SCRIPTS).rglob("*.py")):
        for node in ast.walk(read_code(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in {NAME, SCRIPTS} & _packages(node):
                    yield f"{path.relative_to(folder)}, line {node.lineno}: imports {name}. Import relatively"


def _packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the packages that an absolute import names."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if node.module and not node.level else set()


STATIC: dict[str, Check] = {
    "files and licences": files,
    "sums of all files": sums,
    "weights without pickled code": weights,
    "what the weights are for": weights_metadata,
    "metadata": metadata,
    "no places on a machine": paths,
    "carries what it runs on": code,
}

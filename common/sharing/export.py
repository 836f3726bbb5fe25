"""Export a bundle of this project, with a checkpoint, as one that stands on its own."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tqdm import tqdm

from .. import __version__
from ..classes import ClassScheme
from ..files import atomic_write, remove, sha256, write_json
from ..networks.checkpoint_metadata import (
    CheckpointMetadata,
    as_view,
    metadata_content,
    metadata_path,
    read_checkpoint_metadata,
)
from ..networks.checkpoints import load_weights, read_state
from .archive import CHECKSUMS, files_of, is_of_a_bundle, write_checksums, write_zip
from .closure import PACKAGE, named_in, needed_modules, with_new_places
from .isolation import run_isolated
from .metadata import filled_metadata
from .model_card import UNSPECIFIED, data_license, documentation, model_card
from .settings import SCRIPTS, check_known, merge_overlays, parsed, renamed

logger = logging.getLogger(__name__)

FORMATS = ("ts", "pt2", "onnx")
LARGE_FILES = "large_files.yml"
# Bytes above which the Model Zoo wants a file to be listed, with an address, instead of committed.
LARGEST = 25 * 10**6
# Configs that overlays are merged into.
_MERGED = ("inference", "train", "evaluate")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        configs: overlays that the checkpoint was trained with: names in the bundle's ``configs/``, or paths.
        name: name of the exported bundle; the bundle's by default.
        trained_on: one or two sentences on what the weights were trained on, and under what licence.
        version: version number of the export; the bundle's by default.
        changes: description of what is new in that version.
        metadata: JSON or YAML with further fields for ``metadata.json``: authors, intended_use, eval_metrics, …
        formats: further files of the network, from :data:`FORMATS`: TorchScript, ``torch.export``, ONNX.
        large_files_url: address where files above 25 MB will lie, for :data:`LARGE_FILES`.
        license: licence of the weights, as Hugging Face spells it (apache-2.0, cc-by-4.0, …), for the model card; by
            default the card refers to ``docs/data_license.txt``.
    """

    configs: Sequence[str] = ()
    name: str | None = None
    trained_on: str | None = None
    version: str | None = None
    changes: str | None = None
    metadata: str | Path | None = None
    formats: Sequence[str] = ()
    large_files_url: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown:
            raise ValueError(f"no format {unknown[0]!r}; there are {', '.join(FORMATS)}")


def export_bundle(
    bundle: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    huggingface: str | Path | None = None,
    options: ExportOptions | None = None,
) -> Path:
    """Write a bundle that runs without this project, as a zip, a folder for Hugging Face, or both.

    Args:
        bundle: the bundle's folder.
        checkpoint: the weights.
        out: zip to write.
        huggingface: folder to write, which must not exist yet.
        options: see :class:`ExportOptions`.

    Returns:
        the zip, or else the folder.

    Raises:
        ValueError: there is no bundle, the checkpoint is of another network, or the options do not fit together.
    """
    bundle, options = Path(bundle).resolve(), options or ExportOptions()
    if out is None and huggingface is None:
        raise ValueError("say where to: -o OUT.zip, --huggingface FOLDER, or both")
    if not (bundle / "configs" / "metadata.json").is_file():
        raise ValueError(f"{bundle} is not a bundle: it has no configs/metadata.json")
    if huggingface is not None and Path(huggingface).exists():
        raise ValueError(f"{huggingface} is there already. Remove it, or choose another folder")
    name = options.name or bundle.name
    if not name.isidentifier():
        raise ValueError(f"{name!r}: a bundle's name is made of letters, digits and underscores")
    with tempfile.TemporaryDirectory(prefix="multimag-") as temporary:
        staged = Path(temporary) / name
        _stage(bundle, Path(checkpoint), staged, options)
        if out is not None:
            write_zip(staged, Path(out))
        if huggingface is not None:
            _for_huggingface(staged, Path(huggingface), options.license)
    return Path(out if out is not None else str(huggingface))


def _stage(bundle: Path, checkpoint: Path, staged: Path, options: ExportOptions) -> None:
    """Make the bundle in the folder ``staged``."""
    steps = tqdm(total=4 + len(options.formats), desc=f"exporting {staged.name}", unit="step", leave=False)
    modules = _write_configs(bundle, staged, options)
    steps.update()
    state = read_state(checkpoint)
    parser = parsed(staged / "configs" / "inference.yaml")
    known = read_checkpoint_metadata(checkpoint)
    seen = {key: parser.get_parsed_content(key) for key in ("fields_of_view", "target", "scheme")}
    network = parser.get_parsed_content("network_def")
    try:
        load_weights(network, checkpoint, **seen)
    except ValueError as error:
        # Overlays that its metadata names are in the message already.
        named = known is not None and known.overlays
        hint = "" if named else ", or name with --config the overlays that it was trained with"
        raise ValueError(f"{error}{hint}") from error
    _write_weights(state, staged / "models")
    described = _write_checkpoint_metadata(known, staged, type(network).__name__, options.trained_on, **seen)
    steps.update()
    trained_on = _training_statement(described, options.trained_on)
    declared = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    own = parsed(bundle / "configs" / "inference.yaml")
    metadata = filled_metadata(
        declared, parser, modules, staged.name, trained_on, own, options.version, options.changes
    )
    metadata |= _extra_metadata(options.metadata)
    write_json(staged / "configs" / "metadata.json", metadata)
    _write_documents(bundle, staged, trained_on)
    steps.update()
    for kind in options.formats:
        steps.set_postfix_str(kind)
        run_isolated("model", kind, str(staged), str(staged / "models" / f"model.{kind}"))
        steps.update()
    _write_large_files(staged, options.large_files_url)
    write_checksums(staged)
    steps.close()


def _write_configs(bundle: Path, staged: Path, options: ExportOptions) -> list[Path]:
    """Write the configs with overlays merged, and the modules that they name as ``scripts/``; return these modules."""
    overlays = [_overlay(bundle, name) for name in options.configs]
    paths = [path for path in files_of(bundle / "configs") if is_of_a_bundle(path) and path.name != "metadata.json"]
    # Merged overlays are left out: they name checkpoints that the exported bundle does not have.
    paths = [path for path in paths if path.as_posix() not in options.configs]
    texts = {path: (bundle / "configs" / path).read_text(encoding="utf-8") for path in paths}
    check_known(overlays, [text for path, text in texts.items() if path.suffix == ".yaml"])
    for name in _MERGED:
        texts[Path(f"{name}.yaml")] = merge_overlays(texts[Path(f"{name}.yaml")], overlays)
    for path, text in texts.items():
        _write_text(staged / "configs" / path, renamed(text) if path.suffix == ".yaml" else text)
    modules = needed_modules(with_new_places(named_in(texts.values())))
    for module in modules:
        _write_text(staged / SCRIPTS / module, (PACKAGE / module).read_text(encoding="utf-8"))
    return [PACKAGE / module for module in modules]


def _overlay(bundle: Path, name: str) -> str:
    path = bundle / "configs" / name if (bundle / "configs" / name).is_file() else Path(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such config, nor one of that name in {bundle / 'configs'}")
    return path.read_text(encoding="utf-8")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_weights(state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write ``model.pt`` and ``model.safetensors``: names and tensors only, no state of a training."""
    folder.mkdir(parents=True)
    # Copies: a slice would be saved with the whole tensor that it is a part of, and safetensors refuses shared memory.
    own = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    torch.save(own, folder / "model.pt")
    save_file(own, folder / "model.safetensors", metadata={"format": "pt"})


def _write_checkpoint_metadata(
    known: CheckpointMetadata | None,
    staged: Path,
    network: str,
    trained_on: str | None,
    fields_of_view: Sequence[Any],
    target: Any,
    scheme: ClassScheme,
) -> CheckpointMetadata:
    """Write ``models/model.json``: the checkpoint's metadata, updated for the export."""
    weights = staged / "models" / "model.pt"
    digest = sha256(weights)
    described = replace(
        known or CheckpointMetadata(digest, multimag=__version__),
        sha256=digest,
        bundle=staged.name,
        overlays=[],
        network=network,
        fields_of_view=[as_view(view) for view in fields_of_view],
        target=as_view(target),
        classes=scheme.names,
    )
    if trained_on is not None:
        described = replace(described, trained_on=trained_on)
    write_json(metadata_path(weights), metadata_content(described))
    return described


def _training_statement(described: CheckpointMetadata, given: str | None) -> str:
    """Return the sentence on training slides for metadata.json, the data licence and the model card."""
    statement = given or described.trained_on or UNSPECIFIED
    # A training writes a number of slides; a user's sentence stays word for word.
    if given is None and statement[0].isdigit():
        statement = f"Trained on {statement}"
    return f"{statement} {described.note}" if described.synthetic else statement


def _extra_metadata(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not JSON or YAML that can be read ({error})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must hold fields of metadata.json, such as authors")
    read_off = {"version", "changelog", "network_data_format", "name", "schema", "data_source"}
    own = {key for key in content if key in read_off or key.endswith("_version")}
    if own:
        raise ValueError(f"{path}: {sorted(own)[0]} is read off the bundle or given by an option; leave it out")
    # Dates and the like as text.
    return json.loads(json.dumps(content, default=str))


def _write_documents(bundle: Path, staged: Path, trained_on: str) -> None:
    for path in filter(is_of_a_bundle, files_of(bundle / "docs")):
        to = staged / "docs" / path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / "docs" / path, to)
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    _write_text(staged / "docs" / "README.md", documentation(page, staged.name, trained_on))
    checksum = sha256(staged / "models" / "model.pt")
    _write_text(staged / "docs" / "data_license.txt", data_license(trained_on, checksum))
    shutil.copyfile(bundle / "LICENSE", staged / "LICENSE")


def _write_large_files(staged: Path, url: str | None) -> None:
    """List the files that are too large for the Model Zoo's repository."""
    large = [path for path in files_of(staged) if (staged / path).stat().st_size > LARGEST]
    if not large:
        return
    if url is None:
        logger.warning(
            "%s: above 25 MB; %s gives no address for it. The Model Zoo wants one: --large_files_url URL",
            ", ".join(path.as_posix() for path in large),
            LARGE_FILES,
        )
    listed = [
        {
            "path": path.as_posix(),
            "url": f"{url.rstrip('/')}/{path.as_posix()}" if url else "",
            "hash_val": sha256(staged / path),
            "hash_type": "sha256",
        }
        for path in large
    ]
    _write_text(staged / LARGE_FILES, yaml.safe_dump({"large_files": listed}, sort_keys=False))


def _for_huggingface(staged: Path, folder: Path, license_id: str | None) -> None:
    scheme = parsed(staged / "configs" / "inference.yaml").get_parsed_content("scheme")
    metadata = json.loads((staged / "configs" / "metadata.json").read_text(encoding="utf-8"))
    weights = Path("models") / "model.pt"
    with atomic_write(folder) as partial:
        shutil.copytree(staged, partial)
        known = read_checkpoint_metadata(staged / weights)
        warning = known.note if known is not None and known.synthetic else None
        card = model_card(metadata, scheme, weights, sha256(staged / weights), license_id, warning)
        _write_text(partial / "README.md", card)
        tracked = ("pt", "safetensors", *FORMATS)
        lines = [f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in tracked]
        _write_text(partial / ".gitattributes", "".join(lines))
        remove(partial / CHECKSUMS)
        write_checksums(partial)

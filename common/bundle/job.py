"""Train, evaluate and segment with a bundle's configs.

Everything that can be checked without loading PyTorch is checked first.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..renamed_keys import spelling
from .find import find_bundle, known_bundles, short_name, trained_as
from .keys import check_keys, check_overlays, checked_settings, checkpoint_of, config_files, current_settings
from .run import command_line, run_configs

logger = logging.getLogger(__name__)

_DEFAULT = "pathology_dmmn_segmentation"
# Values of keys that can be checked before anything is loaded; the engine's options check them again.
CHOICES = {
    "context": ("per_patch", "shared", "seamless"),
    "tta": ("none", "flips", "d4"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
}
# Overlay with the demonstration's network and weights, in bundles that have some.
_DEMO = "demo.yaml"


def run_inference(
    slides: Sequence[str],
    bundle: str | None,
    checkpoint: str | None,
    overlays: Sequence[str],
    output: str,
    settings: Mapping[str, Any],
) -> None:
    """Segment slides.

    Args:
        slides: paths, globs or datalists.
        bundle: name or folder; by default the checkpoint's bundle, else DMMN.
        checkpoint: the weights; by default those of the configs, else the demonstration's.
        overlays: overlays on inference.yaml; by default the checkpoint's.
        output: folder for the results.
        settings: values of the configs' keys.

    Raises:
        ValueError: there is no such bundle, config, key, slide or checkpoint.
    """
    if not slides:
        raise ValueError("name at least one slide: multimag segment SLIDE … (a path, a glob or a datalist)")
    folder, overlays = _trained_with(bundle, checkpoint, overlays)
    if checkpoint is None and not overlays:
        overlays = _own_or_demonstration(folder)
    slides = [_as_path(slide) for slide in slides]
    given: dict[str, Any] = {"slides": slides[0] if len(slides) == 1 else slides, "output_dir": _as_path(output)}
    if checkpoint is not None:
        given["checkpoint"] = _as_path(checkpoint)
    _run(folder, ["inference.yaml", *overlays], given, settings, slides)


def run_evaluation(
    datalist: str,
    checkpoint: str,
    bundle: str | None,
    overlays: Sequence[str],
    output: str,
    settings: Mapping[str, Any],
) -> None:
    """Score a checkpoint; see :func:`run_inference`."""
    folder, overlays = _trained_with(bundle, checkpoint, overlays)
    given = {"datalist": _as_path(datalist), "checkpoint": _as_path(checkpoint), "output_dir": _as_path(output)}
    _run(folder, ["train.yaml", "evaluate.yaml", *overlays], given, settings, [datalist])


def run_training(datalist: str, bundle: str, overlays: Sequence[str], output: str, settings: Mapping[str, Any]) -> None:
    """Train a network; see :func:`run_inference`."""
    folder = find_bundle(bundle)
    datalist, output = _as_path(datalist), _as_path(output)
    given: dict[str, Any] = {
        "datalist": datalist,
        "output_dir": output,
        "checkpoint_dir": output,
        "resume": str(Path(output) / "restart.pt"),
    }
    if overlays:
        given["overlays"] = list(overlays)
    else:
        logger.warning(
            "training with the paper's settings, which take days on a GPU. --config small.yaml trains a narrow network"
        )
    _run(folder, ["train.yaml", *overlays], given, settings, [datalist])
    written = Path(output) / "model.pt"
    if written.is_file():
        print(f"the checkpoint with the best validation score: {written}")


def _as_path(path: str) -> str:
    """Return a path that configs take as a path: they would evaluate or follow one that starts with $, @ or %."""
    if path.startswith(("$", "@", "%")):
        return f"./{path}"
    # A shell does not expand ~ in quotes.
    return os.path.expanduser(path)


def _trained_with(bundle: str | None, checkpoint: str | None, overlays: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the bundle's folder and the overlays; by default those that the checkpoint was trained with."""
    known, with_overlays = trained_as(checkpoint) if checkpoint is not None else (None, [])
    if bundle is None and known is not None and known not in known_bundles():
        logger.warning("%s was trained with the bundle %s, which is not here: --bundle FOLDER", checkpoint, known)
        known = None
    folder = find_bundle(bundle or known or _DEFAULT)
    if not overlays and with_overlays and folder.name == (known or folder.name):
        _check_own(folder, checkpoint, with_overlays)
        logger.info("as the weights were trained: bundle %s with %s", short_name(folder.name), ", ".join(with_overlays))
        return folder, with_overlays
    return folder, list(overlays)


def _check_own(folder: Path, checkpoint: str | None, overlays: Sequence[str]) -> None:
    """Refuse overlays from outside the bundle that a file next to the weights names: configs are code."""
    configs = (folder / "configs").resolve()
    for name in overlays:
        path = (configs / name).resolve()
        if not (path.is_file() and path.is_relative_to(configs)):
            raise ValueError(
                f"{checkpoint} was trained with {name}, which is no config of {folder.name}. Name it with "
                "--config PATH if you trust it"
            )


def _own_or_demonstration(folder: Path) -> list[str]:
    """Return the overlays of a bundle's own weights, else those of its demonstration.

    Raises:
        ValueError: the bundle has neither.
    """
    own = folder / "models" / "model.pt"
    if own.is_file():
        _, overlays = trained_as(own)
        return overlays
    if not (folder / "configs" / _DEMO).is_file():
        name = short_name(folder.name)
        raise ValueError(
            f"{folder.name} has no weights yet. Train some (multimag train DATALIST --bundle {name} --config "
            "small.yaml), or name yours with --checkpoint"
        )
    return [_DEMO]


def _run(
    folder: Path, configs: Sequence[str], given: Mapping[str, Any], settings: Mapping[str, Any], inputs: Sequence[str]
) -> None:
    """Check and run configs; ``settings``, the user's, go over ``given``, the command's."""
    files = config_files(folder, configs)
    settings = {**current_settings(files, given), **current_settings(files, settings)}
    check_keys(files, settings, ("bundle", "checkpoint", "config", "output"))
    check_overlays(folder, files)
    settings = checked_settings(files, settings)
    _check_choices(settings)
    _check_inputs(inputs)
    _check_weights(settings.get("checkpoint") or checkpoint_of(files, folder), files, settings)
    print(f"equal to: {command_line(folder, files, settings)}", flush=True)
    run_configs(folder, files, settings)


def _check_choices(settings: Mapping[str, Any]) -> None:
    for key, choices in CHOICES.items():
        value = settings.get(key, choices[0])
        if value not in choices and not str(value).startswith(("$", "@", "%")):
            near = get_close_matches(str(value), choices, 1, 0.5)
            hint = f". Did you mean {near[0]}?" if near else ""
            raise ValueError(f"--{key} must be one of {', '.join(choices)}, not {value!r}{hint}")


def _check_inputs(paths: Sequence[str]) -> None:
    for path in paths:
        if Path(path).exists() or "://" in path:
            continue
        if glob.has_magic(path) and glob.glob(path, recursive=True):
            continue
        raise ValueError(f"{path}: no such file" if not glob.has_magic(path) else f"no file matches {path!r}")


def _check_weights(checkpoint: Any, files: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Check that the weights to be loaded exist; training writes its own."""
    if Path(str(checkpoint)).suffix == ".json":
        raise ValueError(
            f"{checkpoint} describes a checkpoint. Name the weights, {Path(checkpoint).with_suffix('.pt')}"
        )
    trains = not any(path.name in ("inference.yaml", "evaluate.yaml") for path in files)
    path = settings.get(spelling("init_weights", settings)) if trains else checkpoint
    if isinstance(path, str | Path) and not str(path).startswith("$") and not Path(path).is_file():
        raise ValueError(f"{path}: no such checkpoint. Train one (multimag train), or name another with --checkpoint")

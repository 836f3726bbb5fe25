"""Loading of checkpoints into whole networks and into their branches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..renamed import renamed_in
from .checkpoint_metadata import CheckpointMetadata, as_view, metadata_path, read_checkpoint_metadata

logger = logging.getLogger(__name__)
__getattr__ = renamed_in(__name__)


def weights_digest(network: nn.Module) -> str:
    """Return the SHA-256 over names and values of all weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(
    network: nn.Module,
    path: str | Path,
    fields_of_view: Sequence[Any] | None = None,
    target: Any = None,
    scheme: Any = None,
) -> None:
    """Load a checkpoint into a network, or into the one that a parallel wrapper holds.

    With any of the last three arguments, the weights are meant for prediction. Weights that were trained on other µm/px
    or classes are then refused, and their training data is logged.

    Args:
        network: the network.
        path: the checkpoint; see :func:`read_state`.
        fields_of_view: the network's input.
        target: the network's output.
        scheme: class scheme of the output.

    Raises:
        ValueError: the file does not exist, holds another network's weights, or was trained on something else. The
            message says what differs and what to do.
    """
    path = Path(path)
    bare = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    state, metadata = read_state(path), read_checkpoint_metadata(path)
    predicts = any(setting is not None for setting in (fields_of_view, target, scheme))
    if predicts and metadata is not None:
        _check_trained_as(path, metadata, fields_of_view, target, None if scheme is None else scheme.names)
    _load(bare, state, path, metadata.remedy if metadata is not None and metadata.overlays else None)
    if predicts:
        _log_trained_on(path, metadata)


def _check_trained_as(
    path: Path,
    metadata: CheckpointMetadata,
    fields_of_view: Sequence[Any] | None,
    target: Any,
    classes: Sequence[str] | None,
) -> None:
    difference = metadata.difference(fields_of_view, target, classes)
    if difference is not None:
        remedy = f". {metadata.remedy}" if metadata.remedy else f" ({metadata_path(path).name})"
        raise ValueError(f"{path} {difference}{remedy}")
    sizes = [[as_view(view)["size"] for view in views] for views in (fields_of_view or (), metadata.fields_of_view)]
    if all(sizes) and sizes[0] != sizes[1]:
        logger.info("%s was trained on views of %d pixels, here they have %d", path, sizes[1][0], sizes[0][0])


def _log_trained_on(path: Path, metadata: CheckpointMetadata | None) -> None:
    note = metadata.note if metadata is not None else None
    if note is None:
        logger.info("%s: nothing is known about what these weights were trained on", path)
        return
    level = logging.WARNING if metadata is not None and metadata.synthetic else logging.INFO
    logger.log(level, "%s: %s", path, note)


def load_branches(network: nn.Module, paths: Mapping[str, str | Path], frozen: bool = False) -> None:
    """Initialise branches of a multi-magnification network with U-Nets trained at their magnifications.

    Args:
        network: the network.
        paths: name of a branch (``"5x"``: the modules ``encoder_5x`` and ``decoder_5x``) -> checkpoint of a U-Net of
            the same widths.
        frozen: whether training leaves these branches unchanged.

    Raises:
        ValueError: a branch or file does not exist, or the U-Net's weights do not fit.
    """
    for name, path in paths.items():
        if not Path(path).exists():
            raise ValueError(
                f"{path}: no such checkpoint to begin branch {name} as. Train that U-Net first (of the demonstration: "
                "with ablations/demo_context.yaml), or train all branches together with branch_init_weights: {}"
            )
        state = read_state(path)
        for part in ("encoder", "decoder"):
            branch = getattr(network, f"{part}_{name}", None)
            if branch is None:
                raise ValueError(f"{type(network).__name__} has no branch {name!r} (module {part}_{name})")
            weights = {key[len(part) + 1 :]: value for key, value in state.items() if key.startswith(f"{part}.")}
            _load(branch, weights, Path(path))
            branch.requires_grad_(not frozen)
        logger.info("branch %s: %s", name, path)


def load_encoders(network: nn.Module, paths: Mapping[str | int, str | Path]) -> None:
    """Initialise encoders of a multi-resolution network with those of U-Nets trained at the views' µm/px.

    Args:
        network: a :class:`MultiResolution`.
        paths: number of a view, the finest being 0 -> checkpoint of the same network with one resolution and the same
            widths.

    Raises:
        ValueError: a view or file does not exist, or the U-Net's weights do not fit.
    """
    encoders: Sequence[nn.Module] = getattr(network, "encoders", ())
    for view, path in paths.items():
        if not 0 <= int(view) < len(encoders):
            raise ValueError(f"{type(network).__name__} has encoders 0 to {len(encoders) - 1}, not {view}")
        prefix, state = "encoders.0.", read_state(path)
        if any(key.startswith("encoders.1.") for key in state):
            raise ValueError(f"{path}: a network of several resolutions. Name the checkpoint of a U-Net, which has one")
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        _load(encoders[int(view)], weights, Path(path))
        logger.info("encoder of view %s: %s", view, path)


def load_backbone(network: nn.Module, path: str | Path | None, module: str = "trunk") -> None:
    """Initialise the backbones of encoders with a classifier, for example one trained on ImageNet.

    Args:
        network: the network.
        path: state dict of a ResNet of the same depth under torchvision's names. Its last, fully connected layer is
            ignored. None leaves the encoders unchanged.
        module: name of the modules in ``network`` that hold a ``resnet``.

    Raises:
        ValueError: the file does not exist, the network has no such module, or the weights do not fit.
    """
    if path is None:
        return
    weights = {key: value for key, value in read_state(path).items() if not key.startswith("fc.")}
    backbones = [part.resnet for name, part in network.named_modules() if name.split(".")[-1] == module]
    if not backbones:
        raise ValueError(f"{type(network).__name__} has no encoder to load {path} into")
    for backbone in backbones:
        # Older files do not count batches, and nothing here uses the count.
        counts = {key: value for key, value in backbone.state_dict().items() if key.endswith("num_batches_tracked")}
        _load(backbone, {**counts, **weights}, Path(path))
    logger.info("%s of %d encoder(s): %s", module, len(backbones), path)


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the names and tensors of a checkpoint. Nothing else in it is read, and no code in it runs.

    Raises:
        ValueError: the file does not exist, is cut short, or holds more than tensors.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such checkpoint. Train one with train.yaml, or name an existing one")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's reader raises nearly anything on a damaged file.
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: no checkpoint, one that was cut short, or one with pickled code in it, which is not run ({why}). "
            "Save network.state_dict() and nothing else"
        ) from error
    state = content["model"] if isinstance(content, dict) and "model" in content else content
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path}: not the tensors of one network. Save network.state_dict() and nothing else")
    return dict(state)


def _load(network: nn.Module, state: dict[str, torch.Tensor], path: Path, remedy: str | None = None) -> None:
    expected = network.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in state]
    problems += [f"{key} is none of its weights" for key in state if key not in expected]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if problems:
        raise ValueError(
            f"{path} holds the weights of another network than {type(network).__name__}: {problems[0]} "
            f"({len(problems)} differences). "
            + (remedy or "Set network_def to the network (and widths) it was trained with")
        )
    network.load_state_dict(state)

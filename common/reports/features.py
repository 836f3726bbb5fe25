"""Draw patches in two dimensions by an encoder's features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.networks.utils import eval_mode
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import nn
from tqdm import tqdm

from ..bundle.parser import bundle_settings
from ..data.tissue_patches import slide_entries, tissue_patches
from ..figures import new_figure, save_figure
from ..networks.checkpoints import load_backbone, load_weights
from ..networks.resnet import ResNetEncoder
from ..slides import file_name
from .scores import write_table

logger = logging.getLogger(__name__)

_BATCH = 8


def bundle_encoder(
    bundle: str | Path, configs: Sequence[str], checkpoint: str | Path | None, module: str
) -> tuple[nn.Module, dict[str, Any]]:
    """Return an encoder of a bundle's network, and the network's finest view.

    Args:
        bundle: name or folder of the bundle.
        configs: overlays on its inference.yaml.
        checkpoint: checkpoint of the network; None: random weights.
        module: name of the encoder in the network.

    Raises:
        ValueError: the network has no module of that name; the message lists its modules.
    """
    seen = ("fields_of_view", "target", "scheme")
    settings = bundle_settings(bundle, ["inference.yaml", *configs], ["network_def", *seen])
    network = settings["network_def"]
    if checkpoint is not None:
        load_weights(network, checkpoint, **{key: settings[key] for key in seen})
    else:
        logger.warning("no checkpoint: %s of %s has random weights", module, type(network).__name__)
    modules = dict(network.named_children())
    if module not in modules:
        raise ValueError(f"{type(network).__name__} has no part {module!r}; there are {', '.join(modules)}")
    return modules[module], finest_view(bundle, configs)


def finest_view(bundle: str | Path, configs: Sequence[str]) -> dict[str, Any]:
    """Return the finest view of a bundle's network."""
    return bundle_settings(bundle, ["inference.yaml", *configs], ["fields_of_view"])["fields_of_view"][0]


def resnet_encoder(name: str, weights: str | Path | None) -> nn.Module:
    """Return a ResNet, with a classifier's weights if a file of them is given (torchvision's state dict)."""
    if weights is None:
        logger.warning("no weights: %s has random ones", name)
    encoder = nn.ModuleDict({"encoder": ResNetEncoder(name)})
    load_backbone(encoder, weights, module="encoder")
    return encoder["encoder"]


def encoder_features(encoder: nn.Module, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return means over the pixels of an encoder's deepest map, ``(patches, channels)``.

    Args:
        encoder: module from ``(B, 3, H, W)`` in [0, 1] to a map, or a list of maps, the deepest last.
        images: patches ``(3, H, W)`` of values from 0 to 255.
    """
    found = []
    with eval_mode(encoder), torch.no_grad():
        for start in tqdm(range(0, len(images), _BATCH), desc="encoding", unit="batch", delay=2, leave=False):
            batch = torch.from_numpy(np.stack(images[start : start + _BATCH])).float() / 255
            maps = encoder(batch)
            deepest = maps[-1] if isinstance(maps, list | tuple) else maps
            found.append(deepest.mean(dim=(2, 3)).numpy())
    return np.concatenate(found)


def embedded(features: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return features in two dimensions, and the method: UMAP if umap-learn is installed, else PCA."""
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    try:
        from umap import UMAP
    except ImportError:
        return PCA(2, random_state=seed).fit_transform(scaled), "PCA"
    return UMAP(n_neighbors=min(15, len(scaled) - 1), random_state=seed).fit_transform(scaled), "UMAP"


def draw_features(
    datalist: str | Path,
    encoder: nn.Module,
    view: Mapping[str, Any],
    out: str | Path,
    by: Sequence[str] = ("stain", "scanner", "source"),
    patches: int = 20,
    sections: Sequence[str] = ("training", "unlabelled", "validation", "testing"),
    seed: int = 0,
) -> pd.DataFrame:
    """Draw patches of a datalist's slides by an encoder's features, coloured by columns (the form of Modi et al. 2024,
    Figs. 4 to 6).

    Args:
        datalist: path of the datalist.
        encoder: see :func:`encoder_features`.
        view: field of view of the patches.
        out: folder for ``features.png`` and ``features.csv`` (a row per patch).
        by: columns of the datalist to colour by.
        patches: largest number of patches of each slide, at random places in tissue.
        sections: sections of the datalist to use, as far as it has them.
        seed: random seed of the patches.

    Returns:
        the separation of each column's values: the silhouette coefficient of the features, from -1 to 1, 0 where they
        overlap.

    Raises:
        ValueError: a slide lacks one of the columns.
    """
    entries = slide_entries(datalist, sections=sections)
    for column in by:
        lacking = [entry for entry in entries if column not in entry]
        if lacking:
            raise ValueError(f"{lacking[0]['image']}: its datalist entry has no column {column!r}")
    images, slides = _sampled(entries, view, patches, seed)
    features = encoder_features(encoder, images)
    places, method = embedded(features, seed)
    rows = pd.DataFrame(places, columns=["x", "y"])
    rows.insert(0, "slide", [file_name(entries[slide]) for slide in slides])
    for column in by:
        rows[column] = [str(entries[slide][column]) for slide in slides]
    write_table(Path(out) / "features.csv", rows)
    _plot(rows, by, method, Path(out) / "features.png")
    apart = {column: _silhouette(features, rows[column]) for column in by}
    return pd.DataFrame({"column": list(apart), "silhouette": list(apart.values())})


def _sampled(
    entries: Sequence[Mapping[str, Any]], view: Mapping[str, Any], patches: int, seed: int
) -> tuple[list[np.ndarray], list[int]]:
    found = tissue_patches(entries, [view])
    of_slide = found.index.rows["slide"].to_numpy()
    rng = np.random.default_rng(seed)
    chosen = [
        int(row)
        for slide in range(len(entries))
        for row in rng.permutation(np.nonzero(of_slide == slide)[0])[:patches].tolist()
    ]
    reading = tqdm(chosen, desc="reading patches", unit="patch", delay=2, leave=False)
    return [found[row]["image"] for row in reading], [int(of_slide[row]) for row in chosen]


def _silhouette(features: np.ndarray, values: pd.Series) -> float | None:
    return float(silhouette_score(features, values)) if 1 < values.nunique() < len(values) else None


def _plot(rows: pd.DataFrame, by: Sequence[str], method: str, path: Path) -> None:
    figure = new_figure(5 * len(by), 4.6)
    for axes, column in zip(figure.subplots(1, len(by), squeeze=False)[0], by, strict=True):
        for value, part in rows.groupby(column):
            axes.scatter(part["x"], part["y"], s=9, alpha=0.75, label=str(value))
        axes.set(title=f"{method} by {column}", xticks=[], yticks=[])
        axes.legend(fontsize=8, markerscale=1.6)
    save_figure(figure, path)

"""Draw the activations of networks' layers on a patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..bundle.parser import bundle_settings
from ..figures import new_figure, save_figure
from ..networks.checkpoints import load_weights
from ..slides import PatchReader, open_slide


def activation_maps(network: nn.Module, image: torch.Tensor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean absolute activation over the channels of each layer.

    Args:
        network: the network, which is in evaluation mode meanwhile.
        image: one patch, ``(1, 3·S, H, W)``.
        layers: names of modules whose output is one tensor, e.g. ``"centre.trunk.resnet.layer1"``.

    Returns:
        layer -> ``(h, w)`` float32 of that layer's own size.

    Raises:
        ValueError: there is no such layer, or it does not return one map; the message names similar layers.
    """
    modules = dict(network.named_modules())
    unknown = [name for name in layers if name not in modules]
    if unknown:
        start = unknown[0].rsplit(".", 1)[0]
        near = [name for name in modules if name.rsplit(".", 1)[0] == start and name] or [n for n in modules if n][:20]
        raise ValueError(f"{type(network).__name__} has no layer {unknown[0]!r}; there are {', '.join(near)}")
    seen: dict[str, torch.Tensor] = {}
    hooks = [modules[name].register_forward_hook(_keep(seen, name)) for name in layers]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    for name in layers:
        if not (isinstance(seen.get(name), torch.Tensor) and seen[name].dim() == 4):
            raise ValueError(f"layer {name!r} of {type(network).__name__} does not give one map")
    return {name: seen[name][0].abs().mean(dim=0).float().cpu().numpy() for name in layers}


def _keep(seen: dict[str, torch.Tensor], name: str):
    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        # Later layers may overwrite this memory.
        seen[name] = output.clone() if isinstance(output, torch.Tensor) else output

    return hook


def draw_activations(
    slide: str | Path,
    center: tuple[float, float],
    models: Mapping[str, tuple[str | Path, Sequence[str]]],
    layers: Sequence[str],
    bundle: str | Path,
    out: str | Path,
    mpp: float | None = None,
    series: int | None = None,
) -> None:
    """Draw a patch of a slide and, next to it, the activations of networks' layers on it (the form of Mehta et al.
    2018, Fig. 7).

    Args:
        slide: path of the slide.
        center: row and column of the patch's centre in level-0 pixels.
        models: title -> checkpoint, and overlays on the bundle's inference.yaml.
        layers: names of modules that all these networks have.
        bundle: name or folder of the bundle.
        out: picture to write.
        mpp: µm/px of the slide, instead of the file's.
        series: number of the image, in a slide file of several.

    Raises:
        ValueError: a checkpoint does not fit its network, or there is no such layer.
        SlideError: the patch cannot be read.
    """
    rows: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    keys = ["network_def", "fields_of_view", "target", "scheme", "fill", "resample", "preprocessing"]
    with open_slide(slide, mpp=mpp, series=series) as opened:
        for title, (checkpoint, overlays) in models.items():
            settings = bundle_settings(bundle, ["inference.yaml", *overlays], keys)
            seen = {key: settings[key] for key in ("fields_of_view", "target", "scheme")}
            load_weights(settings["network_def"], checkpoint, **seen)
            reader = PatchReader(settings["fields_of_view"], settings["fill"], settings["resample"])
            patch = reader.read(opened, center)
            image = torch.as_tensor(settings["preprocessing"]({"image": torch.from_numpy(patch)})["image"])[None]
            maps = activation_maps(settings["network_def"], image.as_subclass(torch.Tensor).float(), layers)
            rows[title] = (patch[:3].transpose(1, 2, 0), maps)
    _draw(Path(out), rows)


def _draw(path: Path, rows: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]]) -> None:
    """Draw one row per network: its patch's finest view, then each layer's map, scaled by its own 99th percentile."""
    columns = 1 + max(len(maps) for _, maps in rows.values())
    figure = new_figure(2.6 * columns, 2.9 * len(rows))
    for line, (title, (patch, maps)) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True
    ):
        for axes in line:
            axes.set_axis_off()
        line[0].imshow(patch)
        line[0].set_title(title, fontsize=9)
        for axes, (layer, values) in zip(line[1:], maps.items(), strict=True):
            axes.imshow(values, cmap="viridis", vmin=0, vmax=float(np.percentile(values, 99)) or 1.0)
            axes.set_title(f"{layer}\n{values.shape[0]} x {values.shape[1]}", fontsize=7)
    save_figure(figure, path)

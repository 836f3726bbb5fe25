"""The five bundles' networks as the kit runs them, each as its bundle's configs describe it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.bundle.find import find_bundle
from common.bundle.parser import bundle_parser
from common.classes import ClassScheme
from common.inference import InferenceOptions, Segmenter
from common.networks.checkpoints import load_weights
from common.slides import FieldOfView, PatchReader, Slide
from tests.bundles.narrow import NARROW
from tests.gpu.sight import gpu_in_sight

BUNDLES = ("dmmn", "mrn", "multires_encdec", "da_refinenet", "multilevel_unet")
# Shipped checkpoints of the DMMN bundle, and the overlays that they belong to.
CHECKPOINTS = {"demo": ["demo.yaml"], "demo_unet": ["demo.yaml", "ablations/demo_unet.yaml"]}
# Where there is a GPU that PyTorch cannot use, steps fail: nothing runs on the CPU unnoticed.
DEVICE = torch.device("cuda" if gpu_in_sight() else "cpu")


@dataclass(frozen=True)
class Case:
    """A network with what it sees and how its bundle runs it.

    Attributes:
        name: the bundle's short name, or the checkpoint's.
        network: in evaluation mode.
        views: what it sees, finest first.
        target: what it predicts.
        scheme: its classes.
        preprocess: see :class:`Segmenter`.
        fill, resample: see :class:`PatchReader`.
        options: the bundle's own.
    """

    name: str
    network: nn.Module
    views: list[FieldOfView]
    target: FieldOfView
    scheme: ClassScheme
    preprocess: Callable[[torch.Tensor], torch.Tensor]
    fill: str
    resample: str
    options: InferenceOptions

    def contexts(self) -> list[InferenceOptions]:
        """Return the bundle's options for each context that the network offers."""
        separable = getattr(self.network, "alignment", None) is not None
        offered = ["per_patch"]
        if len(self.views) > 1 and (separable or getattr(self.network, "position_independent_context", False)):
            offered.append("shared")
        if separable:
            offered.append("seamless")
        # Seamless inference has no borders to blend.
        return [
            replace(self.options, context=context, overlap=0.0 if context == "seamless" else self.options.overlap)
            for context in offered
        ]

    @property
    def reader(self) -> PatchReader:
        """Return what reads its patches."""
        return PatchReader(self.views, self.fill, self.resample)

    def segmenter(self, options: InferenceOptions, device: torch.device = DEVICE) -> Segmenter:
        """Return the engine on a device, with a copy of the network: other devices' stay what they are."""
        network = copy.deepcopy(self.network)
        return Segmenter(network, [device], self.reader, self.target, self.scheme, options, self.preprocess)

    def patches(self, slide: Slide, count: int) -> torch.Tensor:
        """Return patches along a slide's diagonal: ``(count, 3·S, h, w)``, preprocessed."""
        height, width = slide.shape
        centers = [(share * height, share * width) for share in np.linspace(0.25, 0.75, count)]
        images = [torch.from_numpy(self.reader.read(slide, center)).float() for center in centers]
        return torch.stack([self.preprocess(image) for image in images])

    def flops(self) -> float:
        """Return the operations of one patch's forward pass: two per multiplication and addition."""
        size = self.views[0].size
        image = torch.empty(1, 3 * len(self.views), size, size, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy.deepcopy(self.network).to("meta")(image)
        return float(counter.get_total_flops())


def bundle_case(name: str, miniature: bool = False) -> Case:
    """Return a bundle's own network at its full width with seeded random weights.

    Args:
        name: short name of the bundle, or of one of :data:`CHECKPOINTS`, whose weights are loaded.
        miniature: the narrow network of the tests instead.
    """
    overlays = CHECKPOINTS.get(name, [])
    bundle = find_bundle("dmmn" if name in CHECKPOINTS else name)
    parser = bundle_parser(bundle, ["inference.yaml", *overlays])
    if miniature and name not in CHECKPOINTS:
        for key, value in NARROW[name].items():
            # The others are keys of the training.
            if key.split("#")[0] in parser:
                parser[key] = value
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    if name in CHECKPOINTS:
        load_weights(network, bundle / "models" / f"{name}.pt")
    transform = parser.get_parsed_content("preprocessing")
    return Case(
        name,
        network,
        [FieldOfView.from_config(view) for view in parser.get_parsed_content("fields_of_view")],
        FieldOfView.from_config(parser.get_parsed_content("target")),
        parser.get_parsed_content("scheme"),
        lambda pixels: torch.as_tensor(transform({"image": pixels})["image"]).as_subclass(torch.Tensor),
        parser["fill"],
        parser["resample"],
        parser.get_parsed_content("inferer").options,
    )


def settled(case: Case, slide: Slide, patches: int = 4) -> Case:
    """Return the case with batch normalisation that knows a slide's patches, and a last convolution whose outputs have
    mean 0 and variance 1 on them.

    Weights as they are drawn say nearly the same of every pixel: any device would find the same label.
    """
    network, images = copy.deepcopy(case.network), case.patches(slide, patches)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
    last: dict[str, Any] = {}

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        last.update(module=module, output=output)

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network.train()(images)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        network.eval()(images)
        for hook in hooks:
            hook.remove()
        head, output = last["module"], last["output"]
        spread, mean = output.std(dim=(0, 2, 3)).clamp(min=1e-6), output.mean(dim=(0, 2, 3))
        head.weight /= spread[:, None, None, None]
        if head.bias is not None:
            head.bias.copy_((head.bias - mean) / spread)
    return replace(case, network=network)

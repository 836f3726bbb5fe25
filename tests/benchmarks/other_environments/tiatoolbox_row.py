"""TIAToolbox's SemanticSegmentor over a slide; run by whole_slide.py with the Python of another environment.

    python tests/benchmarks/other_environments/tiatoolbox_row.py NETWORK SLIDE MPP LOW HIGH BATCH_SIZE DTYPE

NETWORK is a TorchScript file, MPP the µm/px of its 256 x 256 pixels, LOW and HIGH what 0 and 255 become. Imports
nothing of this project: TIAToolbox 2.1.3 wants older versions of much that is used here. An environment for it, with
as new a torch:

    pip install torch==2.13.0
    pip install --no-deps tiatoolbox==2.1.3 "torchvision<0.28"
    pip install (what TIAToolbox requires next to these two)
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

# torchvision's compiled half is made for another build of torch; what it declares there is never called here.
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
OPERATORS.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
OPERATORS.define(
    "roi_align(Tensor input, Tensor boxes, float scale, int height, int width, int ratio, bool aligned) -> Tensor"
)
from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # noqa: E402
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # noqa: E402
from tiatoolbox.models.models_abc import ModelABC  # noqa: E402
from tiatoolbox.wsicore.wsireader import WSIReader  # noqa: E402


class Scripted(ModelABC):
    """A TorchScript network, preprocessed by a linear scale."""

    def __init__(self, path: str, low: float, high: float, dtype: str) -> None:
        super().__init__()
        self.network, self.low, self.high = torch.jit.load(path).eval(), low, high
        self.dtype = getattr(torch, dtype)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)

    @staticmethod
    def infer_batch(model: Scripted, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """``(B, h, w, 3)`` -> probabilities ``(B, h, w, C)``."""
        pixels = batch_data.to(device).permute(0, 3, 1, 2).float()
        image = pixels / 255 * (model.high - model.low) + model.low
        lower = model.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(device, model.dtype, enabled=lower):
            logits = model(image.contiguous(memory_format=torch.channels_last)).float()
        return torch.softmax(logits, dim=1).permute(0, 2, 3, 1).cpu().numpy()


def main() -> None:
    """Segment, print one line of JSON."""
    network, path, mpp, low, high, batch_size, dtype = sys.argv[1:]
    slide = WSIReader.open(path, mpp=(0.5, 0.5), power=20)
    resolution = [{"units": "mpp", "resolution": float(mpp)}]
    side = [256, 256]
    config = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        save_resolution=resolution[0],
        patch_input_shape=side,
        patch_output_shape=side,
        stride_shape=side,
    )
    segmentor = SemanticSegmentor(Scripted(network, float(low), float(high), dtype), batch_size=int(batch_size))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        output = {"save_dir": Path(folder) / "output", "output_type": "zarr", "auto_get_mask": False}
        segmentor.run([slide], patch_mode=False, ioconfig=config, **output)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak GiB": peak}))


if __name__ == "__main__":
    main()

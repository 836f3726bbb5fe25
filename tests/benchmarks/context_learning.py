"""Measure whether a narrow U-Net learns from far away: carcinoma or benign epithelium on phantoms, from a coarse view.

    python tests/benchmarks/context_learning.py [OUTPUT] [--mpp 2.0 4.0] [--seeds 3] [--steps 150]

The two look alike within 192 µm, so the network has to look beyond. Every 25 steps: area under the ROC curve over
patches of slides that were not trained on. AdamW 3e-3, one cycle, 16 patches per step, half of each class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from common.annotations import read_annotations
from common.inference.autocast import autocast
from common.inference.precision import resolve_dtype
from common.networks import UNet
from common.phantom import BREAST, write_phantoms
from common.slides import FieldOfView, PatchReader, open_slide

CLASSES = (1, 2)
CENTRE = 128.0  # µm a side that are scored, as in the 20x view


def cut(folder: Path, seeds: range, mpp: float, per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views ``(N, 3, 256, 256)`` centred on either class in turn, and the labels of their centres."""
    rng, side = np.random.default_rng(0), round(CENTRE / mpp)
    reader = PatchReader([FieldOfView(mpp, 256)])
    images, labels = [], []
    for seed in seeds:
        truth = read_annotations(folder / f"phantom_{seed:04d}_labels.tif", BREAST.scheme)
        with open_slide(folder / f"phantom_{seed:04d}.tif") as slide:
            coarse = truth.label_map(slide, (4096, 4096), 4.0, 1024)
            places = [rng.permutation(np.argwhere(coarse == label))[:per_class] * 8.0 for label in CLASSES]
            for center in np.concatenate(places):
                images.append(reader.read(slide, center))
                labels.append(truth.label_map(slide, center, mpp, side))
    scaled = torch.from_numpy(np.stack(images)).float() / 255 * 5 - 3.5
    return scaled, torch.from_numpy(np.stack(labels)).long()


def predict(network: nn.Module, images: torch.Tensor, side: int) -> torch.Tensor:
    """Logits of the centre."""
    first = (256 - side) // 2
    with autocast("cpu", getattr(torch, resolve_dtype("auto", "cpu"))):
        return network(images)[:, :, first : first + side, first : first + side].float()


def area(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the ROC curve, a patch counting once."""
    found, truth = [], []
    with torch.no_grad():
        for image, label in zip(images.split(16), labels.split(16), strict=True):
            difference = predict(network, image, label.shape[-1]).diff(dim=1)[:, 0]
            for values, here in zip(difference, label, strict=True):
                inside = (here == CLASSES[0]) | (here == CLASSES[1])
                found.append(values[inside].mean().item())
                truth.append(bool((here == CLASSES[1]).sum() > (here == CLASSES[0]).sum()))
    return float(roc_auc_score(truth, found))


def learn(training: tuple, validation: tuple, seed: int, steps: int) -> list[float]:
    """Train; the area every 25 steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, labels = training
    kind = np.array([(label == CLASSES[1]).sum() > (label == CLASSES[0]).sum() for label in labels])
    network = UNet(out_channels=2, channels=(8, 16, 32, 64, 128))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    areas = []
    for step in range(1, steps + 1):
        batch = np.concatenate([rng.choice(np.flatnonzero(kind == one), 8, replace=False) for one in (False, True)])
        logits = predict(network, images[batch], labels.shape[-1])
        # Channels 0 and 1 are the two classes here; everything else is unlabelled.
        target = torch.where((labels[batch] == 1) | (labels[batch] == 2), labels[batch] - 1, -1)
        loss = nn.functional.cross_entropy(logits, target, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 25 == 0:
            areas.append(area(network, *validation))
    return areas


def main() -> None:
    """Print one line per view and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/context_learning")
    parser.add_argument("--mpp", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    data = Path(arguments.output) / "data"
    if not (data / "datalist.json").exists():
        write_phantoms(data, training=8, validation=2, testing=1, size=8192, seed=100)
    for mpp in arguments.mpp:
        training, validation = cut(data, range(100, 108), mpp, 75), cut(data, range(108, 110), mpp, 75)
        for seed in range(arguments.seeds):
            areas = learn(training, validation, seed, arguments.steps)
            print(f"{mpp} µm/px, seed {seed}: {' '.join(f'{value:.2f}' for value in areas)}", flush=True)


if __name__ == "__main__":
    main()

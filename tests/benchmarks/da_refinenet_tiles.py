"""Measure what encoding a tile once for all its slices saves: the engine with context "shared" against "per_patch".

    python tests/benchmarks/da_refinenet_tiles.py [OUTPUT] [--full] [--tiles 4] [--fusions attention …]

A synthetic slide of so many tiles a side, random weights: the share of pixels with the same label, and the time as a
ratio within one run. By default slices of 120 pixels, ResNet-18 at an eighth of the paper's width, and the second of
two runs over the slide; with --full slices of 500 pixels, two ResNet-50 at the paper's width, and one run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from common.inference import InferenceOptions, Segmenter
from common.networks import DARefineNet
from common.phantom import BACH_CLASSES, write_bach
from common.slides import FieldOfView, PatchReader, open_slide

SLICES = 5
NARROW = {"channels": (8, 16, 32, 64), "decoder_channels": (64, 32, 32, 32)}


def measure(network: DARefineNet, slide_path: Path, side: int, out: Path, runs: int) -> dict[str, float]:
    """Seconds per way, and the share of equal labels."""
    target = FieldOfView(4.0, side)
    reader = PatchReader([target, FieldOfView(20.0, side, anchor="tile")])
    labels, seconds = {}, {}
    with open_slide(slide_path) as slide:
        for context in ("shared", "per_patch"):
            options = InferenceOptions(context=context, block=SLICES, batch_size=SLICES)
            run = Segmenter(
                network, [torch.device("cpu")], reader, target, BACH_CLASSES, options, lambda pixels: pixels / 255
            )
            for number in range(runs):
                found = run.segment(slide, out / f"{context}_{number}", {})
            labels[context], seconds[context] = found.maps["labels"].array[:], found.seconds
    return {
        "same labels": float((labels["shared"] == labels["per_patch"]).mean()),
        "labels seen": float(len(set(labels["shared"].ravel().tolist()))),
        "time, shared / per_patch": seconds["shared"] / seconds["per_patch"],
    }


def main() -> None:
    """Measure every fusion, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/da_refinenet_tiles")
    parser.add_argument("--fusions", nargs="+", default=["attention", "concat", "add"])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder, side = Path(arguments.output), 500 if arguments.full else 120
    name = f"{side}_{arguments.tiles}"
    if not (folder / name / "WSI" / "A01.svs").exists():
        write_bach(folder / name, 1, side * SLICES * arguments.tiles, 4.0, arguments.seed)
    encoder, widths, runs = ("resnet50", {}, 1) if arguments.full else ("resnet18", NARROW, 2)
    rows = []
    for fusion in arguments.fusions:
        torch.manual_seed(arguments.seed)
        network = DARefineNet(4, encoder, encoder, fusion, **widths)
        # What an earlier run finished would not be done again.
        with TemporaryDirectory(dir=folder) as maps:
            found = measure(network, folder / name / "WSI" / "A01.svs", side, Path(maps), runs)
        rows.append({"encoders": encoder, "side": side, "fusion": fusion, **found})
    table = pd.DataFrame(rows)
    table.to_csv(folder / f"tiles_{name}.csv", index=False)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()

"""Measure the supply of training patches, read from slides each time or packed once, against the training step alone.

    python tests/benchmarks/training_feed.py [OUTPUT] [--batches 20] [--workers 2] [--channels 8 16 32 64 128]

DMMN-M3 with the demonstration's views on a synthetic training set. Per feed: patches per second of the loader alone,
and, while training, the share of the time that the step waits for data.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from common.phantom import write_phantoms

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "bundles" / "pathology_dmmn_segmentation"
FEEDS = {"from slides": [], "packed": ["patch_cache.yaml"]}


def configured(folder: Path, configs: list[str], workers: int, channels: list[int], batches: int) -> ConfigParser:
    """train.yaml with the demonstration's overlay."""
    config = ConfigParser()
    config.read_config([str(BUNDLE / "configs" / name) for name in ("train.yaml", "demo.yaml", *configs)])
    config.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(folder / "data"),
            "output_dir": str(folder),
            "num_workers": workers,
            "network_def#channels": channels,
            "branch_init_weights": {},
            "freeze_branches": False,
            "samples_per_epoch": 8 * batches,
        }
    )
    return config


class Step:
    """One training step, without the data."""

    def __init__(self, config: ConfigParser) -> None:
        self.network = config.get_parsed_content("network").train()
        self.optimizer, self.loss = config.get_parsed_content("optimizer"), config.get_parsed_content("loss")
        self.inferer, self.device = config.get_parsed_content("train#inferer"), config.get_parsed_content("device")

    def __call__(self, batch: dict[str, Any]) -> None:
        image, label = batch["image"].to(self.device), batch["label"].to(self.device)
        self.optimizer.zero_grad()
        self.loss(self.inferer(image, self.network), label).backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def alone(loader: Iterator[dict[str, Any]], batches: int) -> float:
    """Patches per second of the loader when nothing waits for them."""
    started, count = time.perf_counter(), 0
    for _ in tqdm(range(batches), desc="loading", unit="batch", leave=False):
        count += len(next(loader)["image"])
    return count / (time.perf_counter() - started)


def training(loader: Iterator[dict[str, Any]], step: Step, batches: int) -> tuple[float, float]:
    """Patches per second, and the share of the time spent waiting for data."""
    waited, count, started = 0.0, 0, time.perf_counter()
    for _ in tqdm(range(batches), desc="training", unit="batch", leave=False):
        asked = time.perf_counter()
        batch = next(loader)
        waited += time.perf_counter() - asked
        step(batch)
        count += len(batch["image"])
    seconds = time.perf_counter() - started
    return count / seconds, waited / seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/training_feed")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    if not (folder / "data" / "datalist.json").exists():
        write_phantoms(folder / "data", training=4, validation=1, testing=0, size=6144, seed=100)
    rows = []
    for name, configs in FEEDS.items():
        config = configured(folder, configs, arguments.workers, arguments.channels, 2 * arguments.batches + 2)
        # The loss asks for class weights, these for the dataset, and that packs its patches.
        started = time.perf_counter()
        step = Step(config)
        loader = iter(config.get_parsed_content("train#dataloader"))
        first = next(loader)
        prepared = time.perf_counter() - started
        step(first)
        began = time.perf_counter()
        for _ in range(5):
            step(first)
        only = 5 * len(first["image"]) / (time.perf_counter() - began)
        loaded = alone(loader, arguments.batches)
        trained, waited = training(loader, step, arguments.batches)
        rows.append(
            {
                "feed": name,
                "ready after s": prepared,
                "loader alone": loaded,
                "step alone": only,
                "training": trained,
                "waiting": waited,
            }
        )
    table = pd.DataFrame(rows)
    (folder / "training_feed.json").write_text(json.dumps(rows, indent=2))
    print(table.round(3).to_string(index=False))
    print(f"patches per second; {arguments.workers} workers, {folder / 'training_feed.json'}")


if __name__ == "__main__":
    main()

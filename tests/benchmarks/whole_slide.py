"""The whole-slide engine against other ways to run the same network over the same slide.

    python tests/benchmarks/whole_slide.py [OUTPUT] [--slide SLIDE | --size HEIGHT [WIDTH]]
                                           [--network demo|demo_unet|paper] [--readers N] [--repeats N]
                                           [--tiatoolbox PYTHON] [--networks]

Every row is a process of its own, so that its peak memory is its own. Rows: the engine with each context; the plain
forward pass of as many patches, nothing read or written; decoding alone; MONAI's PatchInferer with a splitter that
stacks the views read by MONAI's WSIReader; with ``--tiatoolbox``, the Python of an environment that has TIAToolbox,
its SemanticSegmentor (which has one view: ``--network demo_unet``). ``--repeats`` runs all rows so many times in turn
and takes each one's median (of an even number the slower one in the middle). ``--networks`` also measures patches/s
of every network against its parameters. The slide that took Ho et al. 2021 14 min 52 s, on a GPU:
``--network paper --size 38380 53711``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from monai.data import WSIReader
from monai.inferers import AvgMerger, PatchInferer, Splitter
from slides import write_repeated_slide

from common.inference import InferenceOptions, Segmenter
from common.inference.autocast import AutocastInferer
from common.inference.memory import retain_freed_memory
from common.inference.precision import resolve_dtype
from common.inference.reading import BlockReader
from common.networks import NETWORKS
from common.networks.checkpoints import load_weights
from common.slides import FieldOfView, PatchReader, Slide, open_slide
from common.slides.backends import TiffBackend

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "bundles" / "pathology_dmmn_segmentation"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CONTEXTS = ("per_patch", "shared", "seamless")
ROWS = ("plain forward", "decoding alone", *CONTEXTS, "MONAI PatchInferer")
HALF, WHOLE = [8, 16, 32, 64, 128], [16, 32, 64, 128, 256]


class Case:
    """A network, what it sees, and how: ``demo`` and ``demo_unet`` are the shipped ones, ``paper`` DMMN-M3 at the
    paper's width with random weights, any other name that network at a quarter of the paper's width."""

    def __init__(self, name: str) -> None:
        config = ConfigParser()
        overlays = {"paper": [], "demo_unet": ["demo.yaml", "ablations/demo_unet.yaml"]}.get(name, ["demo.yaml"])
        config.read_config([str(BUNDLE / "configs" / file) for file in ("inference.yaml", *overlays)])
        config["bundle_root"] = str(BUNDLE)
        self.views = [FieldOfView.from_config(view) for view in config.get_parsed_content("fields_of_view")]
        self.target, self.scheme = (
            FieldOfView.from_config(config.get_parsed_content("target")),
            config.get_parsed_content("scheme"),
        )
        scale = config.get_parsed_content("scale_intensity")
        self.preprocess = lambda pixels: scale({"image": pixels})["image"]
        self.dtype = resolve_dtype(config["dtype"], DEVICE)
        torch.manual_seed(0)
        if name in ("demo", "demo_unet", "paper"):
            self.network = config.get_parsed_content("network_def")
        else:
            self.network = NETWORKS[name](channels=HALF if name in ("DMMNMS", "DMMNM2S", "DMMNM3") else WHOLE)
            self.views = self.views[: len(self.network.mpp_ratios)]
        if name in ("demo", "demo_unet"):
            load_weights(self.network, BUNDLE / "models" / f"{name}.pt")
        self.network = self.network.to(DEVICE).eval()

    def segmenter(self, context: str, readers: int) -> Segmenter:
        """The engine."""
        options = InferenceOptions(
            context=context, dtype=self.dtype, reader_threads=readers, batch_size=64 if DEVICE.type == "cuda" else 8
        )
        reader = PatchReader(self.views, fill="black")
        return Segmenter(self.network, [DEVICE], reader, self.target, self.scheme, options, self.preprocess)


class ViewSplitter(Splitter):
    """All views of every target, read one by one as MONAI's reader gives them."""

    def __init__(self, segmenter: Segmenter, slide: Slide, reader: WSIReader) -> None:
        super().__init__(patch_size=segmenter.target.size)
        self.segmenter, self.reader, self.grid = segmenter, reader, segmenter.grid(slide)
        self.views = segmenter.reader.fields_of_view
        self.levels = [slide.sampling_grid(view.mpp).level for view in self.views]

    def get_input_shape(self, inputs: Any) -> tuple:
        return self.grid.shape

    def get_padded_shape(self, inputs: Any) -> tuple:
        return tuple(count * self.grid.target for count in self.grid.grid)

    def __call__(self, inputs: Any) -> Iterable[tuple[torch.Tensor, tuple[int, int]]]:
        for row, column in np.ndindex(self.grid.grid):
            center = self.grid.center(row, column)
            views = [
                self._view(inputs, center, view, level) for view, level in zip(self.views, self.levels, strict=True)
            ]
            stacked = self.segmenter.preprocess(torch.from_numpy(np.concatenate(views).astype(np.float32)))
            yield stacked[None], (row * self.grid.target, column * self.grid.target)

    def _view(self, wsi: Any, center: tuple[float, float], view: FieldOfView, level: int) -> np.ndarray:
        down = self.reader.get_downsample_ratio(wsi, level)
        location = tuple(round(middle - view.size / 2 * down) for middle in center)
        pixels, _ = self.reader.get_data(wsi, location=location, size=(view.size, view.size), level=level)
        return pixels[:3]


def run_row(row: str, case: Case, path: Path, readers: int) -> dict[str, Any]:
    """Measure one row in this process."""
    slide = open_slide(path)
    segmenter = case.segmenter(row if row in CONTEXTS else "per_patch", readers)
    grid = segmenter.grid(slide)
    patches = grid.grid[0] * grid.grid[1]
    found: dict[str, Any] = {"row": row, "patches": patches}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), count_decoded() as decoded:
        started = time.perf_counter()
        if row in CONTEXTS:
            result = segmenter.segment(slide, Path(folder), {})
            found["device computes"] = result.predicting / result.seconds
        elif row == "plain forward":
            _plain_forward(case, patches, segmenter.options.batch_size)
        elif row == "decoding alone":
            decode_all(segmenter, slide)
        else:
            patch_inferer(segmenter, slide, path)
        found["seconds"] = time.perf_counter() - started
    found["patches/s"] = patches / found["seconds"]
    found["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if decoded:
        levels = {slide.sampling_grid(view.mpp).level for view in case.views}
        needed = sum(3 * np.prod(slide.levels[level].shape) for level in levels)
        found["decoded/needed"] = sum(decoded) / float(needed)
    return found


def _plain_forward(case: Case, patches: int, batch_size: int) -> None:
    forward = AutocastInferer(case.dtype)
    batch = torch.rand(batch_size, 3 * len(case.views), case.views[0].size, case.views[0].size, device=DEVICE)
    with retain_freed_memory():
        for _ in range(-(-patches // batch_size)):
            forward(batch, case.network)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def decode_all(segmenter: Segmenter, slide: Slide) -> None:
    """Read every block of a slide as the engine does, with as many threads."""
    grid = segmenter.grid(slide)
    reader = BlockReader(segmenter.reader, slide, grid, segmenter.target.mpp)
    with ThreadPoolExecutor(segmenter.options.reader_threads) as pool:
        every = [(block, np.ones((block.rows, block.columns), dtype=bool)) for block in grid.blocks()]
        for _ in pool.map(lambda job: len(reader.read(*job)), every):
            pass


def patch_inferer(segmenter: Segmenter, slide: Slide, path: Path) -> torch.Tensor:
    """Return the labels of a slide by MONAI's PatchInferer, with the network, patches and precision of the engine."""
    reader = WSIReader(backend="openslide")
    wsi = reader.read(str(path))
    splitter = ViewSplitter(segmenter, slide, reader)
    forward, size = AutocastInferer(segmenter.options.dtype), segmenter.options.batch_size
    network, device = segmenter.networks[0], segmenter.devices[0]
    inferer = PatchInferer(splitter, AvgMerger, batch_size=size, buffer_size=2 * size)
    logits = inferer(wsi, lambda batch: forward(batch.to(device), network).cpu())
    return segmenter.scheme.labels_from_logits(logits)


@contextmanager
def count_decoded() -> Iterator[list[int]]:
    """Note the bytes of every tile that is decoded in the block."""
    sizes: list[int] = []
    decode = TiffBackend._decode

    def counted(self: TiffBackend, level: int, index: int) -> np.ndarray:
        tile = decode(self, level, index)
        sizes.append(tile.nbytes)
        return tile

    with patch.object(TiffBackend, "_decode", counted):
        yield sizes


def in_process(row: str, network: str, slide: Path, readers: int) -> dict[str, Any]:
    """A row in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--row", row, "--network", network, "--slide", str(slide)]
    result = subprocess.run([*command, "--readers", str(readers)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def tiatoolbox_row(python: str, network: str, slide: Path) -> dict[str, Any]:
    """TIAToolbox's, in its own environment."""
    case = Case(network)
    segmenter = case.segmenter("per_patch", 1)
    grid = segmenter.grid(open_slide(slide)).grid
    low, high = (float(case.preprocess(torch.full((3, 1, 1), value))[0]) for value in (0.0, 255.0))
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "network.ts"
        torch.jit.script(case.network.cpu()).save(str(script))
        numbers = [case.target.mpp, low, high, segmenter.options.batch_size, segmenter.options.dtype]
        row = Path(__file__).parent / "other_environments" / "tiatoolbox_row.py"
        command = [python, "-W", "ignore", str(row), str(script), str(slide)]
        result = subprocess.run([*command, *map(str, numbers)], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(result.stdout.splitlines()[-1])
    patches = grid[0] * grid[1]
    return {"row": "TIAToolbox", "patches": patches, "patches/s": patches / found["seconds"], **found}


def median_rows(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of several runs of the same rows, each row's from the run that took it the median time."""
    rows = []
    for same in zip(*runs, strict=True):
        ordered = sorted(same, key=lambda row: row["seconds"])
        rows.append({**ordered[len(ordered) // 2], "fastest": ordered[0]["seconds"], "slowest": ordered[-1]["seconds"]})
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Patches/s against parameters; on a CPU, which others may share, relative to DMMN-M3's."""
    from matplotlib.figure import Figure

    first = next(row["patches/s"] for row in rows if (row["network"], row["row"]) == ("DMMNM3", "per_patch"))
    unit, label = (1.0, "patches/s") if DEVICE.type == "cuda" else (first, "patches/s, DMMN-M3 per_patch = 1,")
    rows = [{**row, "patches/s": row["patches/s"] / unit} for row in rows]
    figure = Figure(figsize=(7, 5))
    axes = figure.subplots()
    for context, marker in zip(CONTEXTS, "osD", strict=True):
        some = [row for row in rows if row["row"] == context]
        axes.scatter(
            [row["parameters"] / 1e6 for row in some], [row["patches/s"] for row in some], marker=marker, label=context
        )
    named = sorted((row for row in rows if row["row"] == "per_patch"), key=lambda row: row["parameters"])
    for number, row in enumerate(named):
        # Two networks may differ by a few thousand parameters only.
        side, offset = ("right", (-6, -4)) if number % 2 else ("left", (6, -4))
        at = (row["parameters"] / 1e6, row["patches/s"])
        axes.annotate(row["network"], at, xytext=offset, textcoords="offset points", ha=side)
    axes.margins(x=0.12)
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel(f"{label} end to end")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def measure_networks(slide: Path, readers: int, folder: Path) -> None:
    """Every network at a quarter of the paper's width, with every context that it offers."""
    rows = []
    for name, network in NETWORKS.items():
        narrow = network(channels=HALF if name in ("DMMNMS", "DMMNM2S", "DMMNM3") else WHOLE)
        # A single view has no context to share.
        offered = [c for c in CONTEXTS if c != "shared" or len(narrow.mpp_ratios) > 1]
        for context in offered if narrow.alignment is not None else CONTEXTS[:1]:
            found = in_process(context, name, slide, readers)
            rows.append({**found, "network": name, "parameters": sum(p.numel() for p in narrow.parameters())})
            print(f"{name:<10}{context:<12}{found['patches/s']:10.1f} patches/s")
    (folder / "networks.json").write_text(json.dumps(rows, indent=2))
    plot(rows, folder / "networks.png")


def main() -> None:
    """Measure the rows, print a table, write JSON and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/whole_slide")
    parser.add_argument("--slide")
    parser.add_argument("--size", type=int, nargs="+", default=[8192], metavar="PIXELS", help="height, and width")
    parser.add_argument("--network", default="demo")
    parser.add_argument("--readers", type=int, default=min(16, os.cpu_count() or 2))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tiatoolbox", metavar="PYTHON")
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--rows", nargs="*", default=ROWS)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(run_row(arguments.row, Case(arguments.network), Path(arguments.slide), arguments.readers)))
        return
    folder = Path(arguments.output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"repeated_{'x'.join(map(str, arguments.size))}.tif"
    slide = Path(arguments.slide).absolute() if arguments.slide else folder / name
    if not slide.exists():
        write_repeated_slide(slide, (arguments.size[0], arguments.size[-1]))
    runs = []
    for _ in range(arguments.repeats):
        runs.append([in_process(row, arguments.network, slide, arguments.readers) for row in arguments.rows])
        if arguments.tiatoolbox:
            runs[-1].append(tiatoolbox_row(arguments.tiatoolbox, arguments.network, slide))
    rows = median_rows(runs)
    print(f"{slide.name}, {arguments.network}, {DEVICE}: {rows[0]['patches']} patches")
    table = pd.DataFrame(rows).set_index("row").drop(columns="patches")
    if "plain forward" in table.index:
        table["of plain"] = table["patches/s"] / table.loc["plain forward", "patches/s"]
    print(table.round(2).to_string(na_rep=""))
    (folder / f"{arguments.network}.json").write_text(json.dumps({"device": str(DEVICE), "runs": runs}, indent=2))
    if arguments.networks:
        measure_networks(slide, arguments.readers, folder)
    print(f"{folder}")


if __name__ == "__main__":
    main()

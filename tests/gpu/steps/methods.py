"""The four other methods' networks at full width over a slide of 8,192 pixels a side, in every context they offer."""

from __future__ import annotations

from dataclasses import replace

from tests.gpu.cases import BUNDLES, DEVICE, bundle_case
from tests.gpu.floor import floor_seconds
from tests.gpu.kit import Kit
from tests.gpu.measure import segment_part, warm_up


def run(kit: Kit) -> None:
    """Add a row per network and context, with the bundle's own overlap and block."""
    path = kit.work / "medium.tif"
    for name in BUNDLES[1:]:
        case = bundle_case(name, kit.miniature)
        flops = case.flops()
        for options in case.contexts():
            row = f"{name}, {options.context}"
            if not kit.has_time_for(row, 5):
                continue
            with kit.attempt(row):
                segmenter = case.segmenter(replace(options, batch_size=16, reader_threads=8))
                figures = warm_up(segmenter, path)
                if not kit.miniature:
                    figures = segment_part(segmenter, path)
                floor = floor_seconds(figures["patches"], flops) / figures["seconds"]
                # The floor is that of a GPU.
                of_floor = floor if DEVICE.type == "cuda" else ""
                kit.add(row, **figures, of_floor=of_floor, gflop_a_patch=flops / 1e9)

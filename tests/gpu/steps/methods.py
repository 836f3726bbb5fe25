"""The four other methods' networks at full width over a slide of 8,192 pixels a side, in every context they offer."""

from __future__ import annotations

from dataclasses import replace

from tests.gpu.cases import BUNDLES, DEVICE, bundle_case
from tests.gpu.floor import floor_seconds
from tests.gpu.kit import Kit
from tests.gpu.measure import segment_one_block, segment_part
from tests.gpu.steps.slide import CONTEXTS


def run(kit: Kit) -> None:
    """Add a row per network and context: the bundle's own overlap and block."""
    path = kit.work / "medium.tif"
    for name in BUNDLES[1:]:
        case = bundle_case(name, kit.miniature)
        flops = case.flops()
        for context in CONTEXTS:
            # Blended seamless inference is refused: there are no borders to blend.
            overlap = 0.0 if context == "seamless" else case.options.overlap
            options = replace(case.options, context=context, overlap=overlap, batch_size=16, readers=8)
            if (context == "shared" and len(case.views) == 1) or not kit.has_time_for(f"{name}, {context}", 5):
                continue
            segmenter = case.segmenter(options)
            try:
                figures = segment_one_block(segmenter, path)
            except ValueError as error:
                if "cannot be run with context" not in str(error) and "share nothing" not in str(error):
                    raise
                continue
            if not kit.miniature:
                figures = segment_part(segmenter, path)
            floor = floor_seconds(figures["patches"], flops) / figures["seconds"] if DEVICE.type == "cuda" else ""
            kit.add(f"{name}, {context}", **figures, of_floor=floor, gflop_a_patch=flops / 1e9)

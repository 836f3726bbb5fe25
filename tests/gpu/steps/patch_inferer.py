"""MONAI's own way, PatchInferer with WSIReader, against the engine: DMMN-M3 at the paper's width, the same slide."""

from __future__ import annotations

from dataclasses import replace

import torch
from whole_slide import patch_inferer

from common.slides import open_slide
from tests.gpu.cases import bundle_case
from tests.gpu.kit import Kit
from tests.gpu.measure import measured, segment_part, warm_up


def run(kit: Kit) -> None:
    """Add a row for each."""
    path = kit.work / "medium.tif"
    case = bundle_case("dmmn", kit.miniature)
    options = replace(case.options, batch_size=4 if kit.miniature else 64, reader_threads=8)
    with open_slide(path) as slide:
        segmenter = case.segmenter(options)
        warm_up(segmenter, path)
        engine = segment_part(segmenter, path)
        kit.add("engine, per_patch", **engine, speed_to_engine=1.0)
        with torch.inference_mode(), measured() as figures:
            patch_inferer(segmenter, slide, path)
        rate = engine["patches"] / figures["seconds"]
        ratio = engine["seconds"] / figures["seconds"]
        kit.add("PatchInferer", patches=engine["patches"], patches_per_s=rate, **figures, speed_to_engine=ratio)

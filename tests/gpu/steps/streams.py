"""Compare a slide's labels from one, two and three streams of a GPU: are they bit-identical, and how fast?"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.inference import Segmenter
from common.slides import Slide, open_slide
from tests.gpu.cases import DEVICE, bundle_case
from tests.gpu.kit import Kit


def run(kit: Kit) -> None:
    """Add a row per context and number of streams.

    Raises:
        AssertionError: labels depend on the streams.
    """
    wrong = []
    case = bundle_case("demo")
    with open_slide(kit.work / "medium.tif") as slide:
        for context in ("per_patch", "shared", "seamless"):
            alone = None
            for streams in (1, 2, 3):
                options = replace(case.options, context=context, block=4, readers=8, streams=streams)
                labels, seconds = _labels(case.segmenter(options, DEVICE), slide, kit.work)
                alone = labels if alone is None else alone
                same = bool(np.array_equal(labels, alone))
                kit.add(f"{context}, {streams}", seconds=seconds, bit_identical_to_one=same)
                if not same:
                    wrong.append(f"{context}, {streams}")
    assert not wrong, f"labels depend on the streams: {', '.join(wrong)}"


def _labels(segmenter: Segmenter, slide: Slide, work: Path) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        began = time.perf_counter()
        labels = segmenter.segment(slide, Path(folder), {}).maps["labels"].array[:]
        return labels, time.perf_counter() - began

"""Compare a slide's labels from one, two and three streams of a GPU: are they bit-identical, and how fast?"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.inference import Segmenter
from common.inference.options import CONTEXTS
from common.slides import open_slide
from tests.gpu.cases import bundle_case
from tests.gpu.kit import Kit
from tests.gpu.measure import warm_up


def run(kit: Kit) -> None:
    """Add a row per context and number of streams.

    Raises:
        AssertionError: labels depend on the streams.
    """
    wrong = []
    case = bundle_case("demo")
    path = kit.work / "medium.tif"
    for context in CONTEXTS:
        alone = None
        for streams in (1, 2, 3):
            options = replace(case.options, context=context, block=4, reader_threads=8, streams=streams)
            segmenter = case.segmenter(options)
            warm_up(segmenter, path)
            labels, seconds = _labels(segmenter, path)
            alone = labels if alone is None else alone
            same = bool(np.array_equal(labels, alone))
            kit.add(f"{context}, {streams}", seconds=seconds, bit_identical_to_one=same)
            if not same:
                wrong.append(f"{context}, {streams}")
    assert not wrong, f"labels depend on the streams: {', '.join(wrong)}"


def _labels(segmenter: Segmenter, path: Path) -> tuple[np.ndarray, float]:
    with open_slide(path) as slide, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        began = time.perf_counter()
        labels = segmenter.segment(slide, Path(folder), {}).maps["labels"].array[:]
        return labels, time.perf_counter() - began

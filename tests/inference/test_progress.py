"""The progress bar of a slide."""

from __future__ import annotations

import pytest
import torch
from tqdm import tqdm

from common.inference import InferenceOptions, WholeSlideInferer
from common.networks import DMMNM3
from common.slides import FieldOfView
from tests.conftest import ramp, write_pyramid
from tests.inference.children import BLOCKS, small_slide
from tests.inference.test_resume import Stepwise, run

VIEWS = [FieldOfView(0.5, 64), FieldOfView(1.0, 64), FieldOfView(2.0, 64)]


@pytest.mark.parametrize(
    ("context", "tta", "least"), [("per_patch", "none", 4), ("shared", "none", 4), ("per_patch", "flips", 8)]
)
def test_the_bar_moves_within_a_block_and_ends_full(tmp_path, monkeypatch, scheme, context, tta, least):
    shown: list[float] = []
    before = tqdm.update

    def update(bar: tqdm, n: float = 1) -> bool | None:
        result = before(bar, n)
        if bar.unit == "patch":
            assert bar.total == 16
            shown.append(bar.n)
        return result

    monkeypatch.setattr(tqdm, "update", update)
    slide = write_pyramid(tmp_path / "s.tif", [ramp(32, 32).repeat(8, 0).repeat(8, 1)], (0.5, 0.5))
    torch.manual_seed(0)
    network = DMMNM3(channels=(4, 6, 8, 10, 12)).eval()
    # 16 targets in one block, in batches of four.
    options = InferenceOptions(batch_size=4, block=4, context=context, tta=tta)
    inferer = WholeSlideInferer(VIEWS, VIEWS[0], scheme, tmp_path / "out", ["summary.json"], options=options)
    inferer({"image": str(slide)}, network)
    assert shown == sorted(shown)
    assert len(set(shown)) >= least
    assert shown[-1] == 16


def test_a_resumed_slide_shows_that_its_finished_blocks_are_checked(tmp_path, scheme, capsys):
    slide = small_slide(tmp_path / "s.tif")
    with pytest.raises(RuntimeError, match="out of memory"):
        run(str(slide), tmp_path / "out", scheme, Stepwise(stop_after=6))
    assert "checking" not in capsys.readouterr().err
    run(str(slide), tmp_path / "out", scheme, Stepwise())
    said = capsys.readouterr().err
    assert f"s: checking finished blocks:   0%|          | 0/{BLOCKS}" in said

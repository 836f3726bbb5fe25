"""Work over slides, divided among the processes of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import distributed, multiprocessing

from common.data.distributed import map_distributed


def _process(rank: int, folder: str, broken: int) -> None:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    done: list[int] = []

    def work(item: int) -> int:
        done.append(item)
        if item == broken:
            raise OSError(f"slide {item} is damaged")
        return item * item

    try:
        said = str(map_distributed(work, [3, 5, 7, 9, 11], "squaring"))
    except (OSError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
    (Path(folder) / f"{rank}.txt").write_text(f"{done}\n{said}")
    distributed.destroy_process_group()


@pytest.mark.parametrize("broken", [pytest.param(0, marks=pytest.mark.all), 9])
def test_each_process_does_its_share_and_all_get_all_or_hear_why_not(tmp_path, broken):
    multiprocessing.spawn(_process, (str(tmp_path), broken), nprocs=2)
    (first, one), (second, other) = ((tmp_path / f"{rank}.txt").read_text().split("\n") for rank in (0, 1))
    assert first == "[3, 7, 11]"
    assert second == "[5, 9]"
    if not broken:
        assert one == other == "[9, 25, 49, 81, 121]"
    else:
        assert one == "ValueError: process 1 of 2 failed: slide 9 is damaged"
        assert other == "OSError: slide 9 is damaged"


def test_alone_a_process_does_it_all():
    assert map_distributed(lambda item: -item, [1, 2], "turning") == [-1, -2]

"""Divide work over slides among the processes of one training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import distributed
from tqdm import tqdm

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_distributed(work: Callable[[_Item], _Result], items: Sequence[_Item], desc: str) -> list[_Result]:
    """Apply a function to every item, and return the results in order.

    Where several processes train together, each works on its share of the items, and all get all results. They must
    call this for the same items at the same time.

    Args:
        work: the function; its results must pickle.
        items: the items, assigned to the processes in turn.
        desc: text of the progress bar.

    Raises:
        ValueError: another process failed. The message names it and its error. An error in this process is raised
            unchanged.
    """
    several = distributed.is_available() and distributed.is_initialized()
    rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    mine = range(rank, len(items), world_size)
    bar = tqdm(mine, desc=desc, unit="slide", delay=2, leave=False, disable=None if rank == 0 else True)
    if not several:
        return [work(items[number]) for number in bar]
    share: dict[int, _Result] = {}
    failure: Exception | None = None
    try:
        for number in bar:
            share[number] = work(items[number])
    except Exception as error:
        # The others wait for this share: without word of the failure they would wait for ever.
        failure = error
    gathered: list[Any] = [None] * world_size
    distributed.all_gather_object(gathered, (share, None if failure is None else str(failure)))
    if failure is not None:
        raise failure
    for number, (_, reason) in enumerate(gathered):
        if reason is not None:
            raise ValueError(f"process {number} of {world_size} failed: {reason}")
    results = {number: result for part, _ in gathered for number, result in part.items()}
    return [results[number] for number in range(len(items))]

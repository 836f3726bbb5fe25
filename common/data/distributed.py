"""Work over slides, shared out among the processes of one training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import distributed
from tqdm import tqdm

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_distributed(work: Callable[[_Item], _Result], items: Sequence[_Item], desc: str) -> list[_Result]:
    """``work`` of every item, in their order. Where several processes train together, each does its share and all get
    all: they must call this for the same items at the same time.

    Args:
        work: its results must pickle.
        items: as many processes' shares take one by one: the first, the second, and so on.
        desc: what the progress bar says.

    Raises:
        ValueError: another process failed; says which, and at what. What fails here is raised as it is.
    """
    several = distributed.is_available() and distributed.is_initialized()
    rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    mine = range(rank, len(items), world_size)
    bar = tqdm(mine, desc=desc, unit="slide", delay=2, leave=False, disable=None if rank == 0 else True)
    if not several:
        return [work(items[number]) for number in bar]
    found: dict[int, _Result] = {}
    failure: Exception | None = None
    try:
        for number in bar:
            found[number] = work(items[number])
    except Exception as error:
        # The others wait for this process's share: they must hear of it, or would wait for good.
        failure = error
    gathered: list[Any] = [None] * world_size
    distributed.all_gather_object(gathered, (found, None if failure is None else str(failure)))
    if failure is not None:
        raise failure
    for number, (_, reason) in enumerate(gathered):
        if reason is not None:
            raise ValueError(f"process {number} of {world_size} failed: {reason}")
    together = {number: result for share, _ in gathered for number, result in share.items()}
    return [together[number] for number in range(len(items))]

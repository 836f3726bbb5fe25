"""Order the patches of training, independently of the number of processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch.utils.data import Sampler

_SEED_RANGE = 2**31


class Draw(NamedTuple):
    """A patch's position in the dataset and the seed of its random transforms."""

    position: int
    seed: int


class SeededDistributedSampler(Sampler[Draw]):
    """Numbers the draws of another sampler over all epochs, and keeps one process's share of them.

    The number of a draw seeds its random transforms, so that an epoch has the same patches, deformed and coloured the
    same, with any number of workers. Batch k of all processes together is batch k of a single process whose batches are
    as large as theirs together.

    Args:
        sampler: sampler of positions, with the same order in every process (by its own generator or seed).
        seed: random seed of the transforms.
        rank: number of this process.
        world_size: number of processes.
        even: drop the last draws if not every process would get one. Training needs it: a process without a batch
            would leave the others waiting.
    """

    def __init__(
        self, sampler: Sampler[int], seed: int = 0, rank: int = 0, world_size: int = 1, even: bool = True
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be one of 0 to {world_size - 1}, not {rank}")
        self.sampler, self.seed, self.rank, self.world_size, self.even = sampler, seed, rank, world_size, even
        self._drawn = 0

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.world_size if self.even else len(range(self.rank, count, self.world_size))

    def skip(self, epochs: int) -> None:
        """Skip a number of epochs."""
        for _ in range(epochs):
            for _ in self:
                pass

    def __iter__(self) -> Iterator[Draw]:
        first = self._drawn
        self._drawn += len(self.sampler)  # type: ignore[arg-type]
        kept = len(self) * self.world_size if self.even else None
        for number, position in enumerate(self.sampler):
            # Draws are consumed to the end even if dropped, so that the samplers of all processes stay in step.
            if number % self.world_size == self.rank and (kept is None or number < kept):
                yield Draw(position, (self.seed * 1_000_003 + first + number) % _SEED_RANGE)

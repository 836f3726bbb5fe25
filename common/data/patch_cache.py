"""Patches read once from the slides and kept on disk, for devices that slides cannot keep up with."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock
from tqdm import tqdm
from zarr.codecs import BloscCodec, Crc32cCodec

from ..files import written_whole
from ..literal import as_path
from ..slides import SlideError, pixel_fingerprint
from .index import PatchIndex
from .output_names import output_name
from .store import label_fingerprint

logger = logging.getLogger(__name__)

# Patches per file.
_SHARD = 64
_KEPT = ("image", "label")


class PatchCache:
    """Patches and label maps as the first transforms make them, one Zarr group per slide.

    What is packed is decoded, resampled and deformed once (the paper's balancing is done once, too: Ho et al. 2021,
    section 2.3); what is drawn again in every epoch stays with the transforms that follow. A CRC-32C of every patch is
    checked whenever it is read.

    Args:
        folder: where the groups are; what is there already is used, what is missing is packed.
        transforms: what is done before a patch is packed: reading it, and its deformation.
        settings: everything that these transforms depend on, as JSON holds it; other settings make other groups.
        threads: that read.
    """

    def __init__(
        self,
        folder: str | Path,
        transforms: Sequence[Callable[[dict[str, Any]], dict[str, Any]]],
        settings: Mapping[str, Any],
        threads: int = 2,
    ) -> None:
        self.folder, self.transforms = Path(as_path(folder)), list(transforms)
        self.settings, self.threads = settings, threads
        self._groups: dict[int, Path] = {}
        self._places: np.ndarray | None = None
        self._open: dict[int, zarr.Group] = {}

    def pack(self, data: Sequence[Mapping[str, Any]], index: PatchIndex) -> None:
        """Pack what is missing of the patches of an index.

        Raises:
            SlideError, AnnotationError: what is needed cannot be read.
        """
        rows = index.rows
        self._places = np.zeros(len(rows), dtype=np.int64)
        numbers = rows["slide"].unique()
        for number in tqdm(numbers, desc="packing patches", unit="slide", delay=2, leave=False):
            here = np.nonzero((rows["slide"] == number).to_numpy())[0]
            self._places[here] = np.arange(len(here))
            item = data[int(number)]
            wanted = rows.iloc[here][["row", "column", "deformation"]].to_numpy(dtype=float)
            path = self.folder / f"{output_name(item)}-{self._key(item, wanted)}.zarr"
            self._groups[int(number)] = path
            self.folder.mkdir(parents=True, exist_ok=True)
            # Of several training processes one packs, the others wait for it.
            with FileLock(self.folder / f".{path.name}.lock"):
                if not path.exists():
                    self._write(path, item, wanted)
        logger.info("%d packed patches: %s", len(rows), self.folder)

    def read(self, slide: int, position: int) -> dict[str, np.ndarray]:
        """``image`` and ``label`` of a row of the index.

        Raises:
            SlideError: the packed file is damaged.
        """
        assert self._places is not None
        path = self._groups[slide]
        try:
            if slide not in self._open:
                self._open[slide] = _opened(path)
            return {name: np.asarray(self._open[slide][name][self._places[position]]) for name in _KEPT}
        except Exception as error:  # a checksum that differs, a shard cut short, a codec's own
            problem = f"packed patch {self._places[position]} cannot be read ({error})"
            raise SlideError(path, problem, "Delete it: it is packed again") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _key(self, item: Mapping[str, Any], wanted: np.ndarray) -> str:
        described = {
            "slide": pixel_fingerprint(item),
            "labels": label_fingerprint(item),
            "patches": hashlib.sha256(wanted.tobytes()).hexdigest(),
            "settings": self.settings,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:24]

    def _write(self, path: Path, item: Mapping[str, Any], wanted: np.ndarray) -> None:
        with written_whole(path) as partial, ThreadPoolExecutor(self.threads) as pool:
            group = zarr.create_group(store=str(partial))
            arrays: dict[str, zarr.Array] = {}
            bar = tqdm(total=len(wanted), desc=path.stem, unit="patch", delay=2, leave=False)
            for first in range(0, len(wanted), _SHARD):
                some = list(pool.map(lambda row: self._made(item, row), wanted[first : first + _SHARD]))
                for name in _KEPT:
                    stacked = np.stack([made[name] for made in some])
                    if name not in arrays:
                        arrays[name] = _array(group, name, (len(wanted), *stacked.shape[1:]))
                    arrays[name][first : first + len(some)] = stacked
                bar.update(len(some))
            bar.close()

    def _made(self, item: Mapping[str, Any], row: np.ndarray) -> dict[str, Any]:
        made = {**item, "center": (float(row[0]), float(row[1])), "deformation": int(row[2])}
        for transform in self.transforms:
            made = transform(made)
        return made


def _opened(path: Path) -> zarr.Group:
    """A group all of whose files are there: zarr takes a lost one for zeros."""
    group = zarr.open_group(str(path), mode="r")
    for name in _KEPT:
        wanted = -(-zarr.open_array(str(path / name), mode="r").shape[0] // _SHARD)
        found = sum(part.is_file() for part in (path / name / "c").rglob("*"))
        if found != wanted:
            raise ValueError(f"{name} has {found} of its {wanted} files")
    return group


def _array(group: zarr.Group, name: str, shape: tuple[int, ...]) -> zarr.Array:
    return group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        shards=(_SHARD, *shape[1:]),
        dtype="uint8",
        compressors=[BloscCodec(cname="lz4", clevel=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )

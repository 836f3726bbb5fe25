"""Cache patches on disk, for devices that are faster than reading slides."""

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

from ..files import atomic_write
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
    """A cache of patches and label maps after the first transforms, one Zarr group per slide.

    Packed patches are decoded, resampled and deformed once (the paper's balancing is done once, too: Ho et al. 2021,
    section 2.3). Random transforms of every epoch come after the cache. A CRC-32C of each patch is checked on every
    read.

    Args:
        folder: folder of the groups. Existing groups are used, missing ones are packed.
        transforms: transforms before the cache: reading a patch, and its deformation.
        settings: all settings of these transforms, as JSON values; other settings make other groups.
        threads: number of threads that read.
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
        """Pack the missing patches of an index.

        Args:
            data: datalist entries.
            index: the patches.

        Raises:
            SlideError, AnnotationError: a slide or annotation cannot be read.
        """
        rows = index.rows
        self._places = np.zeros(len(rows), dtype=np.int64)
        numbers = rows["slide"].unique()
        for number in tqdm(numbers, desc="packing patches", unit="slide", delay=2, leave=False):
            here = np.nonzero((rows["slide"] == number).to_numpy())[0]
            self._places[here] = np.arange(len(here))
            item = data[int(number)]
            patches = rows.iloc[here][["row", "column", "deformation"]].to_numpy(dtype=float)
            path = self.folder / f"{output_name(item)}-{self._key(item, patches)}.zarr"
            self._groups[int(number)] = path
            self.folder.mkdir(parents=True, exist_ok=True)
            # One of several training processes packs, and the others wait for it.
            with FileLock(self.folder / f".{path.name}.lock"):
                if not path.exists():
                    self._write(path, item, patches)
        logger.info("%d packed patches: %s", len(rows), self.folder)

    def read(self, slide: int, position: int) -> dict[str, np.ndarray]:
        """Return ``image`` and ``label`` of a row of the index.

        Args:
            slide: position of the slide in the datalist.
            position: position of the row in the index.

        Raises:
            SlideError: the packed file is damaged.
        """
        assert self._places is not None
        path = self._groups[slide]
        try:
            if slide not in self._open:
                self._open[slide] = _open_group(path)
            return {name: np.asarray(self._open[slide][name][self._places[position]]) for name in _KEPT}
        except Exception as error:  # a wrong checksum, a truncated shard, a codec's own error
            problem = f"packed patch {self._places[position]} cannot be read ({error})"
            raise SlideError(path, problem, "Delete it: it is packed again") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _key(self, item: Mapping[str, Any], patches: np.ndarray) -> str:
        fingerprint = {
            "slide": pixel_fingerprint(item),
            "labels": label_fingerprint(item),
            "patches": hashlib.sha256(patches.tobytes()).hexdigest(),
            "settings": self.settings,
        }
        return hashlib.sha256(json.dumps(fingerprint, sort_keys=True, default=str).encode()).hexdigest()[:24]

    def _write(self, path: Path, item: Mapping[str, Any], patches: np.ndarray) -> None:
        with atomic_write(path) as partial, ThreadPoolExecutor(self.threads) as pool:
            group = zarr.create_group(store=str(partial))
            arrays: dict[str, zarr.Array] = {}
            bar = tqdm(total=len(patches), desc=path.stem, unit="patch", delay=2, leave=False)
            for first in range(0, len(patches), _SHARD):
                shard = list(pool.map(lambda row: self._transformed(item, row), patches[first : first + _SHARD]))
                for name in _KEPT:
                    stacked = np.stack([patch[name] for patch in shard])
                    if name not in arrays:
                        arrays[name] = _array(group, name, (len(patches), *stacked.shape[1:]))
                    arrays[name][first : first + len(shard)] = stacked
                bar.update(len(shard))
            bar.close()

    def _transformed(self, item: Mapping[str, Any], row: np.ndarray) -> dict[str, Any]:
        patch = {**item, "center": (float(row[0]), float(row[1])), "deformation": int(row[2])}
        for transform in self.transforms:
            patch = transform(patch)
        return patch


def _open_group(path: Path) -> zarr.Group:
    """Open a group, and check that all its files exist: zarr reads a missing one as zeros."""
    group = zarr.open_group(str(path), mode="r")
    for name in _KEPT:
        needed = -(-zarr.open_array(str(path / name), mode="r").shape[0] // _SHARD)
        existing = sum(part.is_file() for part in (path / name / "c").rglob("*"))
        if existing != needed:
            raise ValueError(f"{name} has {existing} of its {needed} files")
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

"""A bounded cache of downloaded slides on the local disk."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..files import PARTIAL, remove, write_json

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
# Seconds until a failed update of the index is retried.
_UPDATE_RETRY_SECONDS = 5.0
# Prefix of entries that are being downloaded.
_DOWNLOADING = f"{PARTIAL}fetched-"


class CacheError(ValueError):
    """An entry is larger than the whole cache."""


class DownloadCache:
    """A folder of slides, shared by all processes of a machine that name it.

    Space is reserved before a download starts, and the least recently used entries are removed to make room. An entry
    that is held stays; a process that needs space waits for it. A process that died holds nothing: each has a lock
    file, and the lock ends with the process.

    Args:
        folder: folder on a local disk.
        limit: most bytes of all entries, downloads in progress included.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        self._entries, self._holders = self.folder / "slides", self.folder / "holders"
        for needed in (self._entries, self._holders):
            needed.mkdir(parents=True, exist_ok=True)
        self._index_file = self.folder / "index.json"
        self._lock = FileLock(self.folder / "index.lock")
        self._threads = threading.Lock()
        self._id = uuid.uuid4().hex
        self._own_leases: set[str] = set()
        # Acquired by whichever thread needs it first.
        self._alive = FileLock(self._holders / self._id, thread_local=False)
        # Within the lock of the index: others would take a process whose file is not locked yet for a dead one.
        with self._locked_index() as index:
            for path in self._entries.iterdir():
                if path.name.removeprefix(_DOWNLOADING) not in index:
                    remove(path)
            self._make_room(index, 0)

    @contextmanager
    def hold(self, key: str, size: int, download: Callable[[Path], None]) -> Iterator[Path]:
        """Keep the folder of an entry while the block runs, downloading it if it is not there.

        Args:
            key: name of the entry. The same key is downloaded once.
            size: bytes of the entry.
            download: fills a folder with at most ``size`` bytes.

        Raises:
            CacheError: the entry is larger than the cache.
        """
        if size > self.limit:
            raise CacheError(
                f"{size / 1e9:.3g} GB do not fit into the cache of {self.limit / 1e9:.3g} GB. Raise --cache_gb"
            )
        lease = f"{self._id}:{uuid.uuid4().hex}"
        self._own_leases.add(lease)
        try:
            while not (ready := self._acquire(key, size, lease)):
                # None: no space yet, or another process is downloading it.
                if ready is False:
                    self._download(key, download)
                    break
                time.sleep(_POLL_SECONDS)
            yield self._entries / key
        finally:
            self._own_leases.discard(lease)
            self._drop_leases()

    def reserved_bytes(self) -> int:
        """Return the bytes of all entries, downloads in progress included."""
        with self._locked_index() as index:
            return sum(row["bytes"] for row in index.values())

    def _acquire(self, key: str, size: int, lease: str) -> bool | None:
        """Hold an entry. Return True if it is there, False if the caller is to download it, None if it has to wait."""
        with self._locked_index() as index:
            row = index.get(key)
            if row is not None and row["ready"] and not (self._entries / key).is_dir():
                # Removed by someone else.
                del index[key]
                row = None
            if row is not None:
                if row["ready"]:
                    row["leases"].append(lease)
                    row["used"] = time.time()
                return True if row["ready"] else None
            if not self._make_room(index, size):
                return None
            index[key] = {"bytes": size, "ready": False, "leases": [lease], "used": time.time()}
            return False

    def _download(self, key: str, download: Callable[[Path], None]) -> None:
        partial = self._entries / f"{_DOWNLOADING}{key}"
        remove(partial)
        partial.mkdir()
        try:
            download(partial)
            os.replace(partial, self._entries / key)
        finally:
            remove(partial)
        with self._locked_index() as index:
            index[key]["ready"] = True

    def _drop_leases(self) -> None:
        """Remove leases that ended from the index.

        A disk too full for that does not fail the slide, which is finished. Others wait for the space, so the update
        is retried.
        """
        try:
            with self._locked_index():
                pass
        except OSError as error:
            logger.warning("%s: a slide cannot be released yet: %s", self.folder, error)
            again = threading.Timer(_UPDATE_RETRY_SECONDS, self._drop_leases)
            again.daemon = True
            again.start()

    def _make_room(self, index: dict[str, Any], size: int) -> bool:
        """Remove entries that no one holds, least recently used first, until ``size`` bytes fit. Return whether they
        do."""
        taken = sum(row["bytes"] for row in index.values())
        idle = sorted((row["used"], key) for key, row in index.items() if not row["leases"])
        if taken - sum(index[key]["bytes"] for _, key in idle) + size > self.limit:
            return False
        for _, key in idle:
            if taken + size <= self.limit:
                break
            remove(self._entries / key)
            taken -= index.pop(key)["bytes"]
        return True

    @contextmanager
    def _locked_index(self) -> Iterator[dict[str, Any]]:
        """Lock the index for this thread, drop leases that ended, and write it back after the block."""
        with self._threads, self._lock:
            self._touch_lock()
            index = self._read_index()
            # Dropped leases must be written, too: other processes cannot see which leases of a living one ended.
            before = json.dumps(index)
            self._drop_ended_leases(index)
            yield index
            if json.dumps(index) != before or not self._index_file.exists():
                write_json(self._index_file, index)

    def _read_index(self) -> dict[str, Any]:
        try:
            return json.loads(self._index_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            # Not written yet, or truncated by a power failure.
            return {}

    def _touch_lock(self) -> None:
        """Lock this process's file, by which others see that it lives, and touch it: cleaners of temporary folders
        remove old files."""
        path = self._holders / self._id
        if not path.exists():
            self._alive.release()
            self._alive.acquire()
        os.utime(path)

    def _drop_ended_leases(self, index: dict[str, Any]) -> None:
        """Remove leases that ended, or whose process did, and the unfinished downloads of such processes."""
        holders = {path.name for path in self._holders.iterdir()}
        dead = {holder for holder in holders if self._is_dead(holder)}
        for key, row in list(index.items()):
            row["leases"] = [lease for lease in row["leases"] if self._is_held(lease, holders - dead)]
            if not row["ready"] and not row["leases"]:
                remove(self._entries / f"{_DOWNLOADING}{key}")
                remove(self._entries / key)
                del index[key]
        if dead:
            write_json(self._index_file, index)
        for holder in dead:
            (self._holders / holder).unlink(missing_ok=True)

    def _is_held(self, lease: str, living: set[str]) -> bool:
        holder = lease.partition(":")[0]
        return holder in living and (holder != self._id or lease in self._own_leases)

    def _is_dead(self, holder: str) -> bool:
        if holder == self._id:
            return False
        lock = FileLock(self._holders / holder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

"""Slides from elsewhere on the local disk, never more than so many bytes of them."""

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
_POLL = 0.2
# Seconds until what could not be written down is tried again.
_AGAIN = 5.0
# How the names of what is on its way begin.
_FETCHED = f"{PARTIAL}fetched-"


class CacheError(ValueError):
    """Something is larger than the whole cache."""


class SlideCache:
    """Files of slides, shared by all processes of a machine that name the same folder.

    Room is set aside before anything is fetched, for as many bytes as it has, and for that what was used longest ago
    is removed. What someone holds stays; who needs room waits for it. Holders that died hold nothing: each has a lock
    that ends with its process.

    Args:
        folder: on a local disk.
        limit: bytes, of what is there and what is on its way together.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        self._entries, self._holders = self.folder / "slides", self.folder / "holders"
        for needed in (self._entries, self._holders):
            needed.mkdir(parents=True, exist_ok=True)
        self._index = self.folder / "index.json"
        self._lock = FileLock(self.folder / "index.lock")
        self._threads = threading.Lock()
        self._me = uuid.uuid4().hex
        self._mine: set[str] = set()
        # Whichever thread comes first takes it.
        self._alive = FileLock(self._holders / self._me, thread_local=False)
        # Not yet locked it would pass for a dead process's, if another could look.
        with self._changing() as index:
            for path in self._entries.iterdir():
                if path.name.removeprefix(_FETCHED) not in index:
                    remove(path)
            self._make_room(index, 0)

    @contextmanager
    def held(self, key: str, size: int, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """A folder with what ``fetch`` puts into it, kept while the block runs.

        Args:
            key: what it is; the same key is fetched once.
            size: its bytes.
            fetch: fills a folder, with no more than ``size`` bytes.

        Raises:
            CacheError: it is larger than the cache.
        """
        if size > self.limit:
            raise CacheError(
                f"{size / 1e9:.3g} GB do not fit into the cache of {self.limit / 1e9:.3g} GB. Raise --cache_gb"
            )
        lease = f"{self._me}:{uuid.uuid4().hex}"
        self._mine.add(lease)
        try:
            while not (ready := self._take(key, size, lease)):
                # None: there is no room yet, or another is fetching it.
                if ready is False:
                    self._fetch(key, fetch)
                    break
                time.sleep(_POLL)
            yield self._entries / key
        finally:
            self._mine.discard(lease)
            self._give_back()

    def bytes_set_aside(self) -> int:
        """Bytes of what is there and what is on its way."""
        with self._changing() as index:
            return sum(row["bytes"] for row in index.values())

    def _take(self, key: str, size: int, lease: str) -> bool | None:
        """Hold an entry: True, it is there; False, room is set aside for the caller to fetch it; None, wait."""
        with self._changing() as index:
            row = index.get(key)
            if row is not None and row["ready"] and not (self._entries / key).is_dir():
                # Someone tidied up.
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

    def _fetch(self, key: str, fetch: Callable[[Path], None]) -> None:
        partial = self._entries / f"{_FETCHED}{key}"
        remove(partial)
        partial.mkdir()
        try:
            fetch(partial)
            os.replace(partial, self._entries / key)
        finally:
            remove(partial)
        with self._changing() as index:
            index[key]["ready"] = True

    def _give_back(self) -> None:
        """Write down that leases ended. What was done with the slide is done even if the disk is too full for that; but
        others wait for the room, so it is tried again."""
        try:
            with self._changing():
                pass
        except OSError as error:
            logger.warning("%s: a slide cannot be given back yet: %s", self.folder, error)
            again = threading.Timer(_AGAIN, self._give_back)
            again.daemon = True
            again.start()

    def _make_room(self, index: dict[str, Any], size: int) -> bool:
        """Remove what no one holds, longest unused first, until so many bytes fit; whether they do."""
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
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The index, for this thread of this process alone; written back, without what is held no longer."""
        with self._threads, self._lock:
            self._show_alive()
            index = self._read()
            # Also what is buried must be written: other processes cannot see which leases of a living one ended.
            before = json.dumps(index)
            self._bury(index)
            yield index
            if json.dumps(index) != before or not self._index.exists():
                write_json(self._index, index)

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._index.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            # None yet, or cut short as the machine lost power.
            return {}

    def _show_alive(self) -> None:
        """Others tell by a locked file that this process lives. One that is never touched is tidied away some day."""
        path = self._holders / self._me
        if not path.exists():
            self._alive.release()
            self._alive.acquire()
        os.utime(path)

    def _bury(self, index: dict[str, Any]) -> None:
        """Take away leases that ended, by themselves or with their process, and what such were fetching."""
        holders = {path.name for path in self._holders.iterdir()}
        dead = {holder for holder in holders if self._is_dead(holder)}
        for key, row in list(index.items()):
            row["leases"] = [lease for lease in row["leases"] if self._is_held(lease, holders - dead)]
            if not row["ready"] and not row["leases"]:
                remove(self._entries / f"{_FETCHED}{key}")
                remove(self._entries / key)
                del index[key]
        if dead:
            write_json(self._index, index)
        for holder in dead:
            (self._holders / holder).unlink(missing_ok=True)

    def _is_held(self, lease: str, living: set[str]) -> bool:
        holder = lease.partition(":")[0]
        return holder in living and (holder != self._me or lease in self._mine)

    def _is_dead(self, holder: str) -> bool:
        if holder == self._me:
            return False
        lock = FileLock(self._holders / holder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

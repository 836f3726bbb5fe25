"""The cache keeps what is held, and never exceeds its limit."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.cohort.cache import CacheError, DownloadCache
from common.files import write_json


def size_of(folder: Path) -> int:
    """Return the bytes of all slides in the cache, downloads in progress included."""
    total = 0
    for root, _, names in os.walk(folder / "slides"):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def filling(size: int, pieces: int = 5):
    """Return a download of a file of ``size`` bytes, piece by piece."""

    def fetch(folder: Path) -> None:
        with (folder / "slide").open("wb") as file:
            for _ in range(pieces):
                file.write(b"x" * (size // pieces))
                file.flush()
                time.sleep(0.002)

    return fetch


def full(path: Path, index: dict) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_it_never_exceeds_its_limit_whoever_asks(tmp_path):
    """Two caches on one folder, like those of two processes, twelve threads, slides of many sizes."""
    limit = 10_000
    caches = [DownloadCache(tmp_path, limit) for _ in range(2)]
    largest, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not stop.is_set():
            largest = max(largest, size_of(tmp_path))

    def use(number: int) -> None:
        size = 1000 * (1 + number % 4)
        with caches[number % 2].hold(f"s{number % 20}", size, filling(size)) as folder:
            assert (folder / "slide").stat().st_size == 1000 * (1 + number % 4)
            time.sleep(random.random() * 0.02)
            assert (folder / "slide").exists()

    watcher = threading.Thread(target=watch)
    watcher.start()
    numbers = [20 * turn + number for turn in range(3) for number in range(20)]
    random.Random(0).shuffle(numbers)
    try:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(use, numbers))
    finally:
        stop.set()
        watcher.join()
    assert largest <= limit
    assert 0.5 * limit < caches[0].reserved_bytes() == size_of(tmp_path)


def test_the_least_recently_used_goes_first_and_what_is_held_stays(tmp_path):
    cache, fetched = DownloadCache(tmp_path, 300), []

    def fetch(name: str):
        return lambda folder: (fetched.append(name), (folder / "slide").write_bytes(b"x" * 100))

    for name in ("a", "b", "c", "a", "d"):
        with cache.hold(name, 100, fetch(name)):
            pass
    assert fetched == ["a", "b", "c", "d"]
    with cache.hold("a", 100, fetch("a")), cache.hold("c", 100, fetch("c")), cache.hold("e", 100, fetch("e")):
        assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == ["a", "c", "e"]
        arrived = fetch_in_background(cache, "f", 100)
        assert not arrived.wait(0.5)
    assert arrived.wait(60)
    assert fetched == ["a", "b", "c", "d", "e"]


def fetch_in_background(cache: DownloadCache, key: str, size: int) -> threading.Event:
    """Return an event that is set once there was room for the entry."""
    fetched = threading.Event()
    hold = cache.hold(key, size, lambda folder: fetched.set())
    threading.Thread(target=hold.__enter__, daemon=True).start()
    return fetched


@pytest.mark.parametrize("again", [0.1, 3600])
def test_an_entry_whose_release_could_not_be_written_is_free_to_other_processes_later(tmp_path, monkeypatch, again):
    """After the retry, or with the next change."""
    monkeypatch.setattr("common.cohort.cache._UPDATE_RETRY_SECONDS", again)
    ours, theirs = (DownloadCache(tmp_path, 1000) for _ in range(2))
    with monkeypatch.context() as patched, ours.hold("a", 800, filling(800)):
        patched.setattr("common.cohort.cache.write_json", full)
    if again > 60:
        ours.reserved_bytes()
    assert fetch_in_background(theirs, "b", 900).wait(60)


def test_a_cache_whose_index_was_truncated_starts_empty(tmp_path):
    with DownloadCache(tmp_path, 1000).hold("a", 800, filling(800)):
        pass
    (tmp_path / "index.json").write_text('{"a": {"by')
    cache = DownloadCache(tmp_path, 1000)
    assert cache.reserved_bytes() == size_of(tmp_path) == 0
    with cache.hold("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900


def test_the_same_entry_is_downloaded_once(tmp_path):
    caches, fetched = [DownloadCache(tmp_path, 1000) for _ in range(2)], []

    def fetch(folder: Path) -> None:
        fetched.append(folder)
        filling(500)(folder)

    def use(number: int) -> int:
        with caches[number % 2].hold("a", 500, fetch) as folder:
            return (folder / "slide").stat().st_size

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(6))) == [500] * 6
    assert len(fetched) == 1


def test_a_failed_download_leaves_nothing_and_is_repeated(tmp_path):
    cache = DownloadCache(tmp_path, 1000)

    def broken(folder: Path) -> None:
        (folder / "slide").write_bytes(b"x" * 300)
        raise OSError("the line went dead")

    with pytest.raises(OSError, match="went dead"), cache.hold("a", 900, broken):
        pass
    assert size_of(tmp_path) == cache.reserved_bytes() == 0
    with cache.hold("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900
    with pytest.raises(CacheError, match="do not fit into the cache"), cache.hold("b", 1001, broken):
        pass


def test_a_download_that_could_not_be_entered_leaves_nothing_and_is_repeated(tmp_path, monkeypatch):
    cache = DownloadCache(tmp_path, 1000)

    def full_when_it_is_there(path: Path, index: dict) -> None:
        (full if any(row["ready"] for row in index.values()) else write_json)(path, index)

    with monkeypatch.context() as patched:
        patched.setattr("common.cohort.cache.write_json", full_when_it_is_there)
        with pytest.raises(OSError, match="No space left"), cache.hold("a", 900, filling(900)):
            pass
    assert size_of(tmp_path) == cache.reserved_bytes() == 0
    with cache.hold("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900


_HOLDER = """
import sys, time
from pathlib import Path
from common.cohort.cache import DownloadCache
cache = DownloadCache(sys.argv[1], 1000)
def fetch(folder):
    (folder / "slide").write_bytes(b"x" * 400)
    if sys.argv[2] == "fetching":
        print("now", flush=True)
        time.sleep(60)
with cache.hold("a", 800, fetch):
    print("now", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["fetching", "holding", "holding, its own file tidied away"])
def test_a_killed_process_holds_nothing(tmp_path, moment):
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path), moment], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if "tidied" in moment:
        next((tmp_path / "holders").iterdir()).unlink()
    cache = DownloadCache(tmp_path, 1000)
    assert cache.reserved_bytes() == 800
    process.send_signal(signal.SIGKILL)
    process.wait()
    with cache.hold("b", 900, filling(900)):
        assert cache.reserved_bytes() == size_of(tmp_path) == 900


def test_a_smaller_limit_and_unknown_files_are_cleaned_up(tmp_path):
    with DownloadCache(tmp_path, 1000).hold("a", 800, filling(800)):
        pass
    (tmp_path / "slides" / "stray").mkdir()
    (tmp_path / "slides" / "stray" / "slide").write_bytes(b"x" * 5000)
    DownloadCache(tmp_path, 500)
    assert size_of(tmp_path) == 0

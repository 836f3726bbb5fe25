"""The cache holds what it promised, and never more than its bound."""

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

from common.cohort.cache import CacheError, SlideCache
from common.files import write_json


def size_of(folder: Path) -> int:
    """Bytes of all slides that are there or on their way."""
    total = 0
    for root, _, names in os.walk(folder / "slides"):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def filling(size: int, pieces: int = 5):
    """Fetches a file of so many bytes, not at once."""

    def fetch(folder: Path) -> None:
        with (folder / "slide").open("wb") as file:
            for _ in range(pieces):
                file.write(b"x" * (size // pieces))
                file.flush()
                time.sleep(0.002)

    return fetch


def full(path: Path, index: dict) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_it_never_exceeds_its_bound_whoever_asks(tmp_path):
    """Two caches on one folder, as of two processes, twelve threads, slides of many sizes."""
    limit = 10_000
    caches = [SlideCache(tmp_path, limit) for _ in range(2)]
    largest, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not stop.is_set():
            largest = max(largest, size_of(tmp_path))

    def use(number: int) -> None:
        size = 1000 * (1 + number % 4)
        with caches[number % 2].held(f"s{number % 20}", size, filling(size)) as folder:
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
    assert 0.5 * limit < caches[0].bytes_set_aside() == size_of(tmp_path)


def test_what_was_used_longest_ago_goes_first_and_what_is_held_stays(tmp_path):
    cache, fetched = SlideCache(tmp_path, 300), []

    def fetch(name: str):
        return lambda folder: (fetched.append(name), (folder / "slide").write_bytes(b"x" * 100))

    for name in ("a", "b", "c", "a", "d"):
        with cache.held(name, 100, fetch(name)):
            pass
    assert fetched == ["a", "b", "c", "d"]
    with cache.held("a", 100, fetch("a")), cache.held("c", 100, fetch("c")), cache.held("e", 100, fetch("e")):
        assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == ["a", "c", "e"]
        arrived = fetch_in_background(cache, "f", 100)
        assert not arrived.wait(0.5)
    assert arrived.wait(60)
    assert fetched == ["a", "b", "c", "d", "e"]


def fetch_in_background(cache: SlideCache, key: str, size: int) -> threading.Event:
    """Set when there was room for it."""
    fetched = threading.Event()
    held = cache.held(key, size, lambda folder: fetched.set())
    threading.Thread(target=held.__enter__, daemon=True).start()
    return fetched


@pytest.mark.parametrize("again", [0.1, 3600])
def test_what_could_not_be_given_back_is_free_to_other_processes_later(tmp_path, monkeypatch, again):
    """Soon, or when anything changes."""
    monkeypatch.setattr("common.cohort.cache._AGAIN", again)
    ours, theirs = (SlideCache(tmp_path, 1000) for _ in range(2))
    with monkeypatch.context() as patched, ours.held("a", 800, filling(800)):
        patched.setattr("common.cohort.cache.write_json", full)
    if again > 60:
        ours.bytes_set_aside()
    assert fetch_in_background(theirs, "b", 900).wait(60)


def test_a_cache_whose_index_was_cut_short_begins_anew(tmp_path):
    with SlideCache(tmp_path, 1000).held("a", 800, filling(800)):
        pass
    (tmp_path / "index.json").write_text('{"a": {"by')
    cache = SlideCache(tmp_path, 1000)
    assert cache.bytes_set_aside() == size_of(tmp_path) == 0
    with cache.held("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900


def test_two_who_want_the_same_fetch_it_once(tmp_path):
    caches, fetched = [SlideCache(tmp_path, 1000) for _ in range(2)], []

    def fetch(folder: Path) -> None:
        fetched.append(folder)
        filling(500)(folder)

    def use(number: int) -> int:
        with caches[number % 2].held("a", 500, fetch) as folder:
            return (folder / "slide").stat().st_size

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(6))) == [500] * 6
    assert len(fetched) == 1


def test_what_failed_leaves_nothing_and_is_fetched_anew(tmp_path):
    cache = SlideCache(tmp_path, 1000)

    def broken(folder: Path) -> None:
        (folder / "slide").write_bytes(b"x" * 300)
        raise OSError("the line went dead")

    with pytest.raises(OSError, match="went dead"), cache.held("a", 900, broken):
        pass
    assert size_of(tmp_path) == cache.bytes_set_aside() == 0
    with cache.held("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900
    with pytest.raises(CacheError, match="do not fit into the cache"), cache.held("b", 1001, broken):
        pass


def test_what_came_but_could_not_be_written_down_leaves_nothing_and_is_fetched_anew(tmp_path, monkeypatch):
    cache = SlideCache(tmp_path, 1000)

    def full_when_it_is_there(path: Path, index: dict) -> None:
        (full if any(row["ready"] for row in index.values()) else write_json)(path, index)

    with monkeypatch.context() as patched:
        patched.setattr("common.cohort.cache.write_json", full_when_it_is_there)
        with pytest.raises(OSError, match="No space left"), cache.held("a", 900, filling(900)):
            pass
    assert size_of(tmp_path) == cache.bytes_set_aside() == 0
    with cache.held("a", 900, filling(900)) as folder:
        assert (folder / "slide").stat().st_size == 900


_HOLDER = """
import sys, time
from pathlib import Path
from common.cohort.cache import SlideCache
cache = SlideCache(sys.argv[1], 1000)
def fetch(folder):
    (folder / "slide").write_bytes(b"x" * 400)
    if sys.argv[2] == "fetching":
        print("now", flush=True)
        time.sleep(60)
with cache.held("a", 800, fetch):
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
    cache = SlideCache(tmp_path, 1000)
    assert cache.bytes_set_aside() == 800
    process.send_signal(signal.SIGKILL)
    process.wait()
    with cache.held("b", 900, filling(900)):
        assert cache.bytes_set_aside() == size_of(tmp_path) == 900


def test_a_smaller_bound_and_strangers_files_are_made_room_for(tmp_path):
    with SlideCache(tmp_path, 1000).held("a", 800, filling(800)):
        pass
    (tmp_path / "slides" / "stray").mkdir()
    (tmp_path / "slides" / "stray" / "slide").write_bytes(b"x" * 5000)
    SlideCache(tmp_path, 500)
    assert size_of(tmp_path) == 0

"""Slides are copied whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import aiohttp
import fsspec
import numpy as np
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.http import HTTPFileSystem

from common.cohort import download, locations
from common.cohort.cache import DownloadCache
from common.cohort.download import DownloadError, local_copy, stat_slide
from common.cohort.locations import redact
from common.cohort.retry import is_retryable, retry
from common.slides import slide_state
from tests.cohort.test_cache import size_of


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def cache(tmp_path) -> DownloadCache:
    return DownloadCache(tmp_path / "cache", 1_000_000)


def put(url: str, content: bytes) -> str:
    fsspec.filesystem("s3", use_listings_cache=False).pipe_file(url, content)
    return url


def test_a_copy_equals_the_slide_and_has_its_identity(bucket, cache, content, tmp_path):
    url = put(f"{bucket}/a b.svs", content)
    source = stat_slide(url)
    for folder in (cache, DownloadCache(tmp_path / "other machine", 10**6)):
        with local_copy(url, folder) as path:
            assert path.read_bytes() == content
            file = {"file": path.name, "bytes": path.stat().st_size, "modified": path.stat().st_mtime_ns}
            assert file == source.identity == {**file, "file": "a b.svs", "bytes": 300_000}


def test_a_local_slide_is_not_copied(tmp_path, cache):
    (tmp_path / "a.svs").write_bytes(b"slide")
    with local_copy(str(tmp_path / "a.svs"), cache) as path:
        assert path == tmp_path / "a.svs"
    assert cache.reserved_bytes() == 0
    assert stat_slide(str(path)).identity == {"file": "a.svs", "bytes": 5, "modified": path.stat().st_mtime_ns}


def test_all_files_of_a_slide_are_copied(bucket, cache, content):
    put(f"{bucket}/m/case.mrxs", b"index")
    put(f"{bucket}/m/case/Slidedat.ini", b"ini")
    put(f"{bucket}/m/case/deep/Data0001.dat", content)
    put(f"{bucket}/m/case2/Slidedat.ini", b"another's")
    with local_copy(f"{bucket}/m/case.mrxs", cache) as path:
        found = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
        assert found == {"case.mrxs", "case/Slidedat.ini", "case/deep/Data0001.dat"}
        assert (path.parent / "case/deep/Data0001.dat").read_bytes() == content
    for name in ("1.dcm", "2.dcm", "notes.txt"):
        put(f"{bucket}/d/{name}", name.encode())
    with local_copy(f"{bucket}/d/1.dcm", cache) as path:
        assert sorted(file.name for file in path.parent.iterdir()) == ["1.dcm", "2.dcm"]


def test_only_the_files_of_one_slide_in_a_folder_of_several_are_copied(bucket, cache):
    for name in ("1.jpg", "1.map", "2.jpg", "1.geojson", "2.vms"):
        put(f"{bucket}/v/{name}", name.encode())
    url = put(f"{bucket}/v/1.vms", b"[Virtual Microscope Specimen]\nImageFile=1.jpg\nMapFile=1.map\n")
    before = stat_slide(url).identity
    with local_copy(url, cache) as path:
        assert sorted(file.name for file in path.parent.iterdir()) == ["1.jpg", "1.map", "1.vms"]
        assert slide_state(path).size == before["bytes"]
    put(f"{bucket}/v/1.geojson", b"drawn later")
    assert stat_slide(url).identity == before


def test_temporary_errors_of_a_server_are_retried(bucket, s3_server, cache, content):
    url = put(f"{bucket}/a.svs", content)
    s3_server.fail_next(8)
    before = len(s3_server.served)
    with local_copy(url, cache) as path:
        assert path.read_bytes() == content
    assert len(s3_server.served) - before > 8


@pytest.mark.all
def test_a_permanent_error_of_a_server_is_raised_and_leaves_nothing(bucket, s3_server, cache, content, monkeypatch):
    url = put(f"{bucket}/a.svs", content)
    monkeypatch.setattr(download, "retry", lambda call, what: call())
    with (
        s3_server.failing(lambda method, path: method == "GET"),
        pytest.raises(OSError, match="Internal Server Error"),
        local_copy(url, cache),
    ):
        pass
    assert size_of(cache.folder) == cache.reserved_bytes() == 0


def test_a_slide_that_vanishes_is_reported(bucket, cache, content, monkeypatch):
    url = put(f"{bucket}/a.svs", content)
    files = fsspec.filesystem("s3", use_listings_cache=False)
    known = stat_slide(url)
    files.rm_file(url)
    with pytest.raises(DownloadError, match=r"a.svs: no such file. Check the URL, and that it is still there"):
        stat_slide(url)
    # Between the check and the copy.
    monkeypatch.setattr(download, "stat_slide", lambda location: known)
    with pytest.raises(DownloadError, match=r"a.svs: no such file"), local_copy(url, cache):
        pass
    assert size_of(cache.folder) == cache.reserved_bytes() == 0


def test_a_slide_that_is_replaced_while_it_is_copied_is_copied_again(bucket, cache, content, monkeypatch):
    """The copy never has the beginning of one and the end of the other."""
    url = put(f"{bucket}/a.svs", content)
    known, described, replaced = stat_slide(url), download._files_of, []

    def changing(location: str):
        if len(replaced) < 2:
            replaced.append(put(url, content[::-1] if replaced else content[:1000]))
        return described(location)

    monkeypatch.setattr(download, "stat_slide", lambda location: known)
    monkeypatch.setattr(download, "_files_of", changing)
    monkeypatch.setattr(download, "retry", lambda call, what: call())
    with pytest.raises(OSError, match=r"was replaced by another slide"), local_copy(url, cache):
        pass
    assert size_of(cache.folder) == 0


def test_a_slide_larger_than_the_cache_says_so(bucket, tmp_path, content):
    url = put(f"{bucket}/a.svs", content)
    with (
        pytest.raises(DownloadError, match=r"0.0003 GB do not fit into the cache of 0.0002 GB. Raise --cache_gb"),
        local_copy(url, DownloadCache(tmp_path, 200_000)),
    ):
        pass


def test_slides_are_copied_from_a_web_server(tmp_path, cache, content):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a b.svs").write_bytes(content)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a%20b.svs?signature=secret"
        with local_copy(url, cache) as path:
            assert (path.name, path.read_bytes()) == ("a b.svs", content)
        with pytest.raises(DownloadError, match=r"none.svs: no such file") as failure:
            stat_slide(url.replace("a%20b", "none"))
        assert "secret" not in str(failure.value)
        server.shutdown()


class _Failing(SimpleHTTPRequestHandler):
    """Answers some requests with an error."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.answers:
            self.send_error(self.answers.pop(0))
        else:
            super().do_GET()

    do_HEAD = do_GET


def test_temporary_errors_of_a_web_server_are_retried_and_refusals_are_not(tmp_path, cache, content, monkeypatch):
    """No message contains the signature."""
    monkeypatch.setattr(download, "retry", partial(retry, first=0.01))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.svs").write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Failing, directory=tmp_path / "web")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.svs?signature=secret"
        _Failing.answers[:] = [500] * 3
        assert stat_slide(url).size == len(content)
        assert not _Failing.answers
        _Failing.answers[:] = [403] * 20
        with pytest.raises(Exception, match="403") as failure:
            stat_slide(url)
        assert len(_Failing.answers) > 10
        assert not is_retryable(failure.value)
        assert "secret" not in redact(str(failure.value))
        _Failing.answers[:] = [500] * 100
        with pytest.raises(OSError, match="tried 6 times") as failure:
            stat_slide(url)
        assert "secret" not in str(failure.value)
        _Failing.answers.clear()
        server.shutdown()


class _Slow(SimpleHTTPRequestHandler):
    """Sends a file in eight pieces."""

    pause = 0.0

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        with suppress(OSError):  # Whoever asked has gone.
            for piece in range(8):
                time.sleep(self.pause)
                outputfile.write(content[piece * len(content) // 8 : (piece + 1) * len(content) // 8])
                outputfile.flush()


@pytest.mark.parametrize("stalls", [False, True])
def test_a_slow_download_succeeds_and_a_stalled_one_fails(tmp_path, cache, content, monkeypatch, stalls):
    HTTPFileSystem.clear_instance_cache()
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    monkeypatch.setattr(download, "retry", lambda call, what: call())
    monkeypatch.setattr(locations, "_STALL_TIMEOUT", 0.5 if stalls else 60.0)
    monkeypatch.setattr(_Slow, "pause", 3.0 if stalls else 0.2)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.svs").write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, directory=tmp_path / "web")) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetching = local_copy(f"http://127.0.0.1:{server.server_port}/a.svs", cache)
        if stalls:
            with pytest.raises(FSTimeoutError) as failure, fetching:
                pass
            assert is_retryable(failure.value)
            assert size_of(cache.folder) == 0
        else:
            with fetching as path:
                assert path.read_bytes() == content
        server.shutdown()


_ON_A_SMALL_DISK = """
import sys
from common.cohort.cache import DownloadCache
from common.cohort.download import local_copy
with local_copy(sys.argv[1], DownloadCache(sys.argv[2], 10**9)):
    pass
"""


def test_a_full_disk_is_named_and_nothing_is_left_on_it(bucket, content, tmp_path):
    """On a file system of 2 MB of the process's own, where that is allowed, else with a limit on the size of files."""
    url = put(f"{bucket}/a.svs", content * 10)
    command = [sys.executable, "-c", _ON_A_SMALL_DISK, url, str(tmp_path / "disk")]
    (tmp_path / "disk").mkdir()
    inside = f"mount -t tmpfs -o size=2m none {tmp_path}/disk && "
    space = ["unshare", "--map-root-user", "--mount", "bash", "-c"]
    if subprocess.run([*space, f"{inside} true"], capture_output=True, check=False).returncode:
        space, inside = ["bash", "-c"], "ulimit -f 1024; "
    script = f'{inside} "$@"; find {tmp_path}/disk/slides -type f -size +0'
    result = subprocess.run(
        [*space, script, "-", *command], capture_output=True, text=True, check=False, env=os.environ
    )
    last = result.stderr.strip().splitlines()[-1]
    assert "OSError" in last
    assert f"{tmp_path}/disk: " in last
    assert "Free some, or choose --cache" in last
    assert result.stdout == ""


def test_names_that_lead_out_of_a_slides_folder_are_refused(tmp_path, cache, monkeypatch):
    file = download._File("memory://a.svs", "../../a.svs", 1, 0, "")
    monkeypatch.setattr(download, "_files_of", lambda location: [file])
    with pytest.raises(DownloadError, match="leads out of the slide's folder"):
        download._download(download.SlideSource("memory://a.svs", 1, 0, ""), Path(tmp_path / "here"))

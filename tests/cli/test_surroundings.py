"""Locales, closed pipes and folders without rights: what surrounds a command."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common import caches
from common.caches import use_writable_cache
from common.cli import output
from common.cli.errors import one_line
from tests.conftest import REPOSITORY

_NAME = "Läsion 胃"
# Prints a name as fire and the logs do, and reads a file as MONAI does.
_CODE = """
import sys
from common.cli.encoding import use_utf8
use_utf8()
print(sys.argv[1], open(sys.argv[2]).read())
"""


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {}],
)
def test_names_and_configs_are_utf8_in_every_locale(tmp_path, locale):
    script, config = tmp_path / "script.py", tmp_path / "config.yaml"
    script.write_text(_CODE, encoding="utf-8")
    config.write_text("0.5 µm/px", encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL")}
    result = subprocess.run(
        [sys.executable, script, _NAME, config],
        env={**kept, **locale, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode("utf-8") == f"{_NAME} 0.5 µm/px\n"
    assert result.stderr == b""


def test_a_command_goes_on_when_no_one_reads_its_output_or_its_errors(tmp_path):
    code = (
        "import sys, logging; from common.cli.dispatch import run; import common.cli.share as share;"
        "share.bundles = lambda: [print('x', flush=True), print('x', file=sys.stderr, flush=True),"
        " logging.getLogger('a').info('x'), open('done', 'w').close()];"
        "run({'a': {'bundles': 'share:bundles'}}, ['bundles'])"
    )
    reading, writing = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=writing, stderr=writing, env=environment
    )
    os.close(reading)
    os.close(writing)
    assert process.wait() == 0
    assert (tmp_path / "done").exists()


# Waits until its terminal is closed, and then writes to it.
_IN_A_TERMINAL = """
import os, sys, time
from common.cli.dispatch import run
import common.cli.share as share
def bundles():
    print("ready", flush=True)
    while os.isatty(1):
        time.sleep(0.01)
    print("x", flush=True)
    print("x", file=sys.stderr, flush=True)
    open("done", "w").close()
share.bundles = bundles
run({"a": {"bundles": "share:bundles"}}, ["bundles"])
"""


def exit_code_after_closing_the_terminal(folder: Path, *before: str) -> int:
    """Return the code with which a command ends whose terminal was closed while it worked."""
    command = [*before, sys.executable, "-c", _IN_A_TERMINAL]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execvpe(command[0], command, {**os.environ, "PYTHONPATH": str(REPOSITORY)})
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_closed_terminal_ends_a_command_with_the_code_of_its_signal(tmp_path):
    assert exit_code_after_closing_the_terminal(tmp_path) == 128 + signal.SIGHUP
    assert not (tmp_path / "done").exists()


def test_a_command_that_ignores_hangups_goes_on_when_its_terminal_is_closed(tmp_path):
    ignoring = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
    assert exit_code_after_closing_the_terminal(tmp_path, *ignoring) == 0
    assert (tmp_path / "done").exists()


def test_an_output_file_on_a_failing_disk_is_an_error(tmp_path):
    def fail(text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with (tmp_path / "log").open("w") as file:
        failing = SimpleNamespace(write=fail, fileno=file.fileno)
        with pytest.raises(OSError, match="Input/output error"):
            output._Safe(failing, bars=False).write("x")


def test_a_home_folder_without_rights_gets_a_temporary_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(caches.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(caches.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    monkeypatch.setenv("CUPY_CACHE_DIR", "given")
    use_writable_cache()
    assert os.environ["CUPY_CACHE_DIR"] == "given"
    monkeypatch.delenv("CUPY_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    use_writable_cache()
    assert "CUPY_CACHE_DIR" not in os.environ
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    use_writable_cache()
    assert os.environ["CUPY_CACHE_DIR"] == str(tmp_path / "multimag-cupy-")


def test_a_missing_right_is_one_line_with_a_remedy(tmp_path):
    error = PermissionError(13, "Permission denied", str(tmp_path / "out"))
    assert one_line(error) == f"{tmp_path / 'out'}: Permission denied. Choose another place, or ask for the right"
    error = OSError(30, "Read-only file system", str(Path("out")))
    assert one_line(error) == "out: Read-only file system. Choose another place, or ask for the right"

"""Locales, closed pipes and folders without rights: what surrounds a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import caches
from common.caches import use_writable_cache
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

"""Only failures that may be temporary are retried."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

import common.errors
from common.cohort.download import DownloadError
from common.cohort.retry import RetriesExhaustedError, is_retryable, retry
from common.inference.folder import FolderInUseError
from common.settings import SettingsError


def copy_of(module: ModuleType) -> ModuleType:
    """Return a module with classes of its own, as an exported bundle brings it."""
    assert module.__file__ is not None
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_copied", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    return copied


class Permanent(Exception):
    retryable = False


class Unavailable(Exception):
    """As of a client's library."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@pytest.mark.parametrize(
    "error",
    [
        Permanent(),
        SettingsError("other settings"),
        DownloadError("a.svs", "no such file", "Check the path"),
        copy_of(common.errors).UnreadableFileError("a.svs", "damaged", "Copy it again"),
        copy_of(sys.modules["common.settings"]).SettingsError("other settings"),
        FileNotFoundError(),
        Unavailable(403),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_cause_in_the_file_the_settings_or_the_rights_is_not_retried(error):
    assert not is_retryable(error)


def test_a_copy_of_an_error_class_is_no_instance_of_ours_but_has_its_attribute():
    copied = copy_of(common.errors)
    assert not issubclass(copied.UnreadableFileError, common.errors.UnreadableFileError)
    assert copied.UnreadableFileError.retryable is copied.OutputError.retryable is False


def test_an_error_of_a_bundle_that_the_previous_version_exported_is_known_by_its_name():
    assert not is_retryable(type("UnreadableFileError", (Exception,), {})("a.svs: damaged"))


@pytest.mark.parametrize("error", [OSError("reset"), FolderInUseError("s0"), Unavailable(429), Unavailable(503)])
def test_a_cause_in_a_server_or_another_process_is_retried(error):
    assert is_retryable(error)


def test_retries_end_with_the_last_reason():
    calls = []

    def fail() -> None:
        calls.append(None)
        raise OSError("reset by https://host/a.svs?signature=secret")

    with pytest.raises(RetriesExhaustedError, match=r"a.svs: reset by https://host/a.svs \(tried 3 times\)"):
        retry(fail, "a.svs", tries=3, first=0.0)
    assert len(calls) == 3

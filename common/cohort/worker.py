"""The worker: loads the network, downloads slides, segments them and uploads the outputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from .. import __version__
from ..bundle.parser import bundle_parser
from ..errors import UnreadableFileError
from ..files import remove, utf8
from ..inference.folder import FolderInUseError
from ..literal import literal
from ..networks.checkpoints import load_weights
from ..outputs.writer import SUMMARY
from ..renamed_keys import KEYS, spelling
from ..slides import read_options
from .cache import DownloadCache
from .download import SlideSource, local_copy, stat_slide
from .locations import redact, redact_url
from .manifest import CohortSlide
from .retry import is_retryable
from .store import file_hashes, open_store

_Result = TypeVar("_Result")
# Keys of a config on which a slide's outputs do not depend, and the weights, which are compared by their hash.
_IRRELEVANT_KEYS = frozenset((
    "imports", "bundle_root", "dataset_dir", "slides", "section", "name_by", "output_dir", "outputs", "overwrite",
    "checkpoint", "checkpoint_name", "overlays", "device", "devices", "reader_threads", "streams", "dataset",
    "dataloader", "handlers", "evaluator", "postprocessing", "check_keys", "check_views", "run", "initialize",
    "finalize", "mpp", "series",
))  # fmt: skip
# Seconds to wait for a locked slide folder. After a machine was lost, a file server keeps its locks for a while (NFS:
# 90 s).
_LOCK_TIMEOUT, _LOCK_POLL_SECONDS = 180.0, 2.0
# Keys that the cohort itself sets.
_RESERVED_KEYS = frozenset(("bundle_root", "device", "devices", "output_dir", "slides"))


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker.

    Attributes:
        bundle: folder of the bundle, on every worker's machine.
        configs: configs of the bundle; later ones override earlier ones.
        overrides: values of the configs' keys.
        output: path or URL of the outputs.
        cache: local folder for downloaded slides and for outputs before their upload.
        cache_bytes: most bytes of slides in the cache.
        device: device of the network.
        threads: number of processor threads; None leaves it to PyTorch.
    """

    bundle: str
    configs: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    output: str = "output"
    cache: str = "cache"
    cache_bytes: int = 50 * 10**9
    device: str = "cpu"
    threads: int | None = None


class SlideWorker:
    """Segments one slide at a time. Called from several threads, it downloads the next and uploads the previous one
    meanwhile.

    Methods never raise; on failure they return ``{"failed": reason, "retryable": bool}``.

    Args:
        settings: settings of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._options = settings
        self._busy = threading.Lock()
        self._description: dict[str, Any] | None = None
        self.worker_id = f"{platform.node()}:{os.getpid()}"

    def describe(self, token: str) -> dict[str, Any]:
        """Load the network. Return what all workers must agree on, and what this one reads in a file of the store.

        Args:
            token: name of the file.
        """
        try:
            description = self._description or self._load()
            return {**description, "token": self._store.read(token)}
        except Exception as error:
            return self._failure(error)

    def _load(self) -> dict[str, Any]:
        options = self._options
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._store = open_store(options.output, Path(options.cache) / "outputs")
        self._cache = DownloadCache(options.cache, options.cache_bytes)
        self._inferer, self._network, config = load_bundle(options)
        self._inferer.output_dir = self._store.working
        # The inferer of a bundle that the previous version exported has the method by its former name.
        describe = getattr(self._inferer, "run_settings", None) or self._inferer.general_settings
        # In the form that JSON has, as it is compared with stored settings.
        settings = json.loads(json.dumps({**describe(self._network), "config": config}))
        self._settings_key = self._store.save_settings(settings)
        self._outputs = [*dict.fromkeys((*self._inferer.outputs, SUMMARY))]
        device = torch.device(options.device).type
        self._description = {
            "worker_id": self.worker_id,
            "settings": settings,
            "circumstances": {"device": device, "torch": torch.__version__, "multimag": __version__},
            "outputs": self._outputs,
            "overwrite": bool(self._inferer.overwrite),
        }
        return self._description

    def segment(self, slide: CohortSlide, parts: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
        """Segment a slide. Return ``{"record": its record in the store}``.

        Args:
            slide: the slide.
            parts: name of each part that is predicted already, and the seconds that it took.
        """
        seconds = {"segmenting": sum(took for _, took in parts)}
        local: Path | None = None
        try:
            source = stat_slide(slide.location)
            known = None if self._inferer.overwrite else self._store.record(slide.name)
            if known is not None and self._matches(known, slide, source):
                # Finished by a worker that ended, or lost its connection, before it could answer.
                return {"record": known}
            self._store.start(slide.name)
            with ExitStack() as stack:
                with _timed(seconds, "download"):
                    local = stack.enter_context(local_copy(slide.location, self._cache))
                with self._busy, _timed(seconds, "segmenting"):
                    summary = self._segment_copy(slide, local, [name for name, _ in parts])
            with _timed(seconds, "upload"):
                files = file_hashes(self._store.working / slide.name, self._outputs)
                record = _record(slide, source.identity, summary, files)
                record |= {"settings": self._settings_key, "seconds": seconds, "worker": self.worker_id}
                self._store.commit(slide.name, record)
            if parts:
                with suppress(Exception):  # The slide is finished even if parts are left over.
                    self._store.delete_parts(slide.name)
            return {"record": record}
        except Exception as error:
            return self._failure(error, slide, local)

    def predict_part(self, slide: CohortSlide, part: tuple[int, int]) -> dict[str, Any]:
        """Predict a part of a slide. Return ``{"part": its name, "seconds": seconds it took}``.

        Args:
            slide: the slide.
            part: number of the part, from 0, and the number of parts.
        """
        seconds: dict[str, float] = {}
        local: Path | None = None
        try:
            # Other settings, or a slide that was replaced, result in another name.
            identity = json.dumps([self._settings_key, stat_slide(slide.location).identity, entry_settings(slide)])
            stem = f"{slide.name}/{hashlib.sha256(utf8(identity)).hexdigest()[:8]}-{part[0]}-of-{part[1]}"
            name, folder = f"{stem}.zip", f".cohort/begun/{stem}"
            if not self._store.has_part(name):
                with local_copy(slide.location, self._cache) as local, self._busy, _timed(seconds, "segmenting"):
                    item = {**slide.entry, "image": str(local), "name": folder}
                    path = _when_unlocked(lambda: self._inferer.predict_part(item, self._network, part))
                self._store.save_part(name, path)
                remove(self._store.working / folder)
            return {"part": name, "seconds": seconds.get("segmenting", 0.0)}
        except Exception as error:
            return self._failure(error, slide, local)

    def _matches(self, record: Mapping[str, Any], slide: CohortSlide, source: SlideSource) -> bool:
        identity = (record["settings"], record["slide"], record["entry"])
        there = {path.partition("/")[0] for path in record["files"]}
        return identity == (self._settings_key, source.identity, entry_settings(slide)) and there >= set(self._outputs)

    def _segment_copy(self, slide: CohortSlide, local: Path, parts: Sequence[str]) -> dict[str, Any]:
        item = {**slide.entry, "image": str(local), "name": slide.name}
        for name in parts:
            with self._store.open_part(name) as part:
                try:
                    _when_unlocked(lambda: self._inferer.adopt_parts(item, self._network, [part]))
                except Exception as error:
                    # The blocks of a damaged part are predicted here.
                    if not _is(error, UnreadableFileError):
                        raise
        return _when_unlocked(lambda: self._inferer.segment_slide(item, self._network))

    def _failure(self, error: Exception, slide: CohortSlide | None = None, local: Path | None = None) -> dict[str, Any]:
        known = type(error).__module__.partition(".")[0] in (__name__.partition(".")[0], "scripts")
        reason = redact(str(error) if known else f"{type(error).__name__}: {error}")
        if slide is not None and local is not None:
            reason = reason.replace(str(local), redact_url(slide.location))
        retryable = is_retryable(error)
        if slide is not None and not retryable:
            with suppress(Exception):  # The reason matters more.
                self._store.discard(slide.name)
        return {"failed": reason, "retryable": retryable}


def _when_unlocked(call: Callable[[], _Result]) -> _Result:
    """Return the result of ``call``, waiting while another process has locked the slide's folder."""
    until = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            return call()
        except Exception as error:
            if not _is(error, FolderInUseError) or time.monotonic() > until:
                raise
        time.sleep(_LOCK_POLL_SECONDS)


def _is(error: Exception, kind: type[Exception]) -> bool:
    """Return whether an error is of a class. By name, as an exported bundle has its own copy of the class."""
    return type(error).__name__ == kind.__name__


def load_bundle(settings: WorkerSettings) -> tuple[Any, torch.nn.Module, dict[str, Any]]:
    """Return a bundle's inferer, its network with weights, and the part of its config on which the outputs depend.

    Raises:
        ValueError: there is no such bundle, or its inferer does not segment slides.
    """
    root = Path(settings.bundle)
    if not (root / "configs").is_dir():
        raise ValueError(f"{root}: no bundle folder on {platform.node()}. Unpack a zip; all machines need it there")
    # An exported bundle brings its own modules.
    sys.path.insert(0, str(root))
    parser = bundle_parser(root, settings.configs)
    for key, value in settings.overrides.items():
        if re.split("#|::", key)[0] not in parser or key in _RESERVED_KEYS:
            raise ValueError(
                f"--{key} is no option of a cohort, nor a key of {', '.join(settings.configs)}. Is it misspelt?"
            )
        parser[key] = literal(value)
    # Bundles that were exported by the previous version have its keys.
    kept = {key for key in parser.get() if not {key, *KEYS.get(key, ())} & _IRRELEVANT_KEYS}
    config = {key: value for key, value in dict(parser.get()).items() if key in kept}
    parser["bundle_root"], parser["devices"] = literal(str(root)), None
    parser["device"] = f"$torch.device('{settings.device}')"
    checks = spelling("check_views", parser.get())
    if checks in parser:
        parser.get_parsed_content(checks)
    inferer, network = parser.get_parsed_content("inferer"), parser.get_parsed_content("network").eval()
    if not hasattr(inferer, "adopt_parts"):
        raise ValueError(
            f"{root}: its inferer, a {type(inferer).__name__}, is not this version's whole-slide inferer. Export the "
            "bundle again, or choose another config"
        )
    seen = {key: parser.get_parsed_content(key) for key in ("fields_of_view", "target", "scheme")}
    load_weights(network, parser.get_parsed_content("checkpoint"), **seen)
    return inferer, network, config


def _record(
    slide: CohortSlide, identity: Mapping[str, Any], summary: Mapping[str, Any], files: Mapping[str, Any]
) -> dict[str, Any]:
    areas = {name: found["area_mm2"] for name, found in summary["classes"].items()}
    return {
        "name": slide.name,
        "image": redact_url(slide.location),
        "slide": dict(identity),
        "entry": entry_settings(slide),
        "files": dict(files),
        "area_mm2": areas,
        "predicted_mm2": round(sum(areas.values()), 6),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def entry_settings(slide: CohortSlide) -> dict[str, Any]:
    """Return the part of a slide's entry on which its outputs depend."""
    regions = slide.entry.get("regions")
    return {**read_options(slide.entry), **({} if regions is None else {"regions": regions})}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to a dictionary."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - began, 3)

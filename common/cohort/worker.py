"""What works on slides: holds the network, brings slides here, segments them and hands the outputs over."""

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
from ..slides import read_options
from .cache import SlideCache
from .locations import redacted, shown
from .manifest import CohortSlide
from .patience import passes
from .staging import Source, look_up, staged
from .store import hashes, open_store

_Result = TypeVar("_Result")
# Of a config, what a slide's outputs do not depend on, or what is compared otherwise (the weights).
_INDIFFERENT = frozenset(
    (
        *("imports", "bundle_root", "dataset_dir", "slides", "section", "name_by", "output_dir", "outputs"),
        *(
            "overwrite",
            "checkpoint",
            "checkpoint_name",
            "overlays",
            "device",
            "devices",
            "readers",
            "streams",
            "dataset",
            "dataloader",
            "handlers",
        ),
        *("evaluator", "postprocessing", "compatible", "run", "initialize", "finalize", "mpp", "series"),
    )
)
# Seconds for which a slide's folder may stay locked after the machine that worked there was lost: a file server frees
# it when it misses that machine; NFS after 90 s.
_LOCKED_FOR, _LOOK_AGAIN = 180.0, 2.0
# What the cohort itself sets.
_OWN = frozenset(("bundle_root", "device", "devices", "output_dir", "slides"))


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is made with.

    Attributes:
        bundle: folder of the bundle, which every worker's machine has.
        configs: of the bundle, later ones laid over earlier ones.
        overrides: values of the configs' keys.
        output: path or URL.
        cache: local folder for slides and outputs on their way.
        cache_bytes: of slides at most.
        device: where the network runs.
        threads: of the processor; None leaves it to PyTorch.
    """

    bundle: str
    configs: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    output: str = "output"
    cache: str = "cache"
    cache_bytes: int = 50 * 10**9
    device: str = "cpu"
    threads: int | None = None


class Worker:
    """Segments slides, one at a time; called from several threads, it fetches the next meanwhile, and hands the outputs
    of the one before over.

    Its methods give what happened, and raise nothing: ``{"failed": reason, "passes": whether another try may help}`` is
    one of the things that may.
    """

    def __init__(self, given: WorkerSettings) -> None:
        self._given = given
        self._busy = threading.Lock()
        self._description: dict[str, Any] | None = None
        self.where = f"{platform.node()}:{os.getpid()}"

    def describe(self, token: str) -> dict[str, Any]:
        """Get ready, and say what all workers must agree in, and what this one reads in a file where the outputs go."""
        try:
            description = self._description or self._ready()
            return {**description, "token": self._store.read(token)}
        except Exception as error:
            return self._failed(error)

    def _ready(self) -> dict[str, Any]:
        given = self._given
        if given.threads is not None:
            torch.set_num_threads(given.threads)
        self._store = open_store(given.output, Path(given.cache) / "outputs")
        self._cache = SlideCache(given.cache, given.cache_bytes)
        self._inferer, self._network, config = load_bundle(given)
        self._inferer.output_dir = self._store.working
        # As JSON has it: what is kept of it is compared with it.
        settings = json.loads(json.dumps({**self._inferer.run_settings(self._network), "config": config}))
        self._settings = self._store.keep_settings(settings)
        self._outputs = [*dict.fromkeys((*self._inferer.outputs, SUMMARY))]
        device = torch.device(given.device).type
        self._description = {
            "where": self.where,
            "settings": settings,
            "circumstances": {"device": device, "torch": torch.__version__, "multimag": __version__},
            "outputs": self._outputs,
            "overwrite": bool(self._inferer.overwrite),
        }
        return self._description

    def segment(self, slide: CohortSlide, parts: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
        """Segment a slide: ``{"record": what the outputs' place keeps of it}``.

        Args:
            slide: the slide.
            parts: names of parts of it that were predicted before, and the seconds that each took.
        """
        seconds = {"segmenting": sum(took for _, took in parts)}
        local: Path | None = None
        try:
            source = look_up(slide.location)
            known = None if self._inferer.overwrite else self._store.record(slide.name)
            if known is not None and self._is_of(known, slide, source):
                # Made before, by a worker that ended, or lost its way, before it could say so.
                return {"record": known}
            self._store.begin(slide.name)
            with ExitStack() as held:
                with _timed(seconds, "staging"):
                    local = held.enter_context(staged(slide.location, self._cache))
                with self._busy, _timed(seconds, "segmenting"):
                    summary = self._segmented(slide, local, [name for name, _ in parts])
            with _timed(seconds, "handing over"):
                files = hashes(self._store.working / slide.name, self._outputs)
                record = _record(slide, source.identity, summary, files)
                record |= {"settings": self._settings, "seconds": seconds, "worker": self.where}
                self._store.finish(slide.name, record)
            if parts:
                with suppress(Exception):  # It is finished, whatever is left lying about.
                    self._store.drop_parts(slide.name)
            return {"record": record}
        except Exception as error:
            return self._failed(error, slide, local)

    def predict_part(self, slide: CohortSlide, part: tuple[int, int]) -> dict[str, Any]:
        """Predict one part, from 0 on, of so many of a slide: ``{"part": its name, "seconds": it took}``."""
        seconds: dict[str, float] = {}
        local: Path | None = None
        try:
            # Parts of other settings, or of what the slide was before, have other names.
            made_of = json.dumps([self._settings, look_up(slide.location).identity, wanted_of(slide)])
            stem = f"{slide.name}/{hashlib.sha256(utf8(made_of)).hexdigest()[:8]}-{part[0]}-of-{part[1]}"
            name, folder = f"{stem}.zip", f".cohort/begun/{stem}"
            if not self._store.has_part(name):
                with staged(slide.location, self._cache) as local, self._busy, _timed(seconds, "segmenting"):
                    item = {**slide.entry, "image": str(local), "name": folder}
                    path = _when_free(lambda: self._inferer.predict_part(item, self._network, part))
                self._store.put_part(name, path)
                remove(self._store.working / folder)
            return {"part": name, "seconds": seconds.get("segmenting", 0.0)}
        except Exception as error:
            return self._failed(error, slide, local)

    def _is_of(self, record: Mapping[str, Any], slide: CohortSlide, source: Source) -> bool:
        made_of = (record["settings"], record["slide"], record["entry"])
        there = {path.partition("/")[0] for path in record["files"]}
        return made_of == (self._settings, source.identity, wanted_of(slide)) and there >= set(self._outputs)

    def _segmented(self, slide: CohortSlide, local: Path, parts: Sequence[str]) -> dict[str, Any]:
        item = {**slide.entry, "image": str(local), "name": slide.name}
        for name in parts:
            with self._store.part(name) as part:
                try:
                    _when_free(lambda: self._inferer.adopt_parts(item, self._network, [part]))
                except Exception as error:
                    # A damaged one: its blocks are predicted here. By name, as an exported bundle has its own.
                    if type(error).__name__ != UnreadableFileError.__name__:
                        raise
        return _when_free(lambda: self._inferer.segment_slide(item, self._network))

    def _failed(self, error: Exception, slide: CohortSlide | None = None, local: Path | None = None) -> dict[str, Any]:
        known = type(error).__module__.partition(".")[0] in (__name__.partition(".")[0], "scripts")
        reason = redacted(str(error) if known else f"{type(error).__name__}: {error}")
        if slide is not None and local is not None:
            reason = reason.replace(str(local), shown(slide.location))
        lasting = not passes(error)
        if slide is not None and lasting:
            with suppress(Exception):  # The reason is what matters.
                self._store.abandon(slide.name)
        return {"failed": reason, "passes": not lasting}


def _when_free(call: Callable[[], _Result]) -> _Result:
    """What ``call`` gives, once no lock of another process is on the slide's folder any more."""
    until = time.monotonic() + _LOCKED_FOR
    while True:
        try:
            return call()
        except Exception as error:
            # By name, as an exported bundle has its own.
            if type(error).__name__ != FolderInUseError.__name__ or time.monotonic() > until:
                raise
        time.sleep(_LOOK_AGAIN)


def load_bundle(given: WorkerSettings) -> tuple[Any, torch.nn.Module, dict[str, Any]]:
    """A bundle's inferer, its network with weights, and its config as far as outputs depend on it.

    Raises:
        ValueError: there is no such bundle, or its inferer segments no slides.
    """
    root = Path(given.bundle)
    if not (root / "configs").is_dir():
        raise ValueError(f"{root}: no bundle's folder on {platform.node()}. Unpack a zip; all machines need it there")
    # An exported bundle carries its modules.
    sys.path.insert(0, str(root))
    parser = bundle_parser(root, given.configs)
    for key, value in given.overrides.items():
        if re.split("#|::", key)[0] not in parser or key in _OWN:
            raise ValueError(
                f"--{key} is no option of a cohort, nor a key of {', '.join(given.configs)}. Is it misspelt?"
            )
        parser[key] = literal(value)
    config = {key: value for key, value in dict(parser.get()).items() if key not in _INDIFFERENT}
    parser["bundle_root"], parser["devices"] = literal(str(root)), None
    parser["device"] = f"$torch.device('{given.device}')"
    if "compatible" in parser:
        parser.get_parsed_content("compatible")
    inferer, network = parser.get_parsed_content("inferer"), parser.get_parsed_content("network").eval()
    if not hasattr(inferer, "run_settings"):
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
        "image": shown(slide.location),
        "slide": dict(identity),
        "entry": wanted_of(slide),
        "files": dict(files),
        "area_mm2": areas,
        "predicted_mm2": round(sum(areas.values()), 6),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def wanted_of(slide: CohortSlide) -> dict[str, Any]:
    """What of a slide's entry its outputs depend on."""
    regions = slide.entry.get("regions")
    return {**read_options(slide.entry), **({} if regions is None else {"regions": regions})}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds that a block takes to a dictionary."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - began, 3)

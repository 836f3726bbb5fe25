"""The run of a cohort, from its manifest to its outputs."""

from __future__ import annotations

import functools
import logging
import math
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..bundle.find import find_bundle
from ..bundle.keys import check_keys, config_files, current_settings
from ..settings import check_same, differences
from .dispatch import Dispatcher, SlideTask
from .download import SlideSource, stat_slide
from .local_workers import LocalWorker, WorkerHandle
from .locations import is_url, redact
from .manifest import CohortSlide, read_manifest
from .ray_workers import RayWorker, connect, plan_workers
from .report import CHECKSUMS, FAILED, NOT_REACHED, TABLE, CohortReport, format_failures
from .store import FolderStore, OutputStore, open_store
from .worker import SlideWorker, WorkerSettings, entry_settings

logger = logging.getLogger(__name__)

# Slides whose size and record are asked for at the same time: nearly all of the time is spent waiting for a server.
_STAT_THREADS = 32
# Tasks of a worker at the same time: one is downloaded and one uploaded while one is segmented.
_MAX_CONCURRENCY = 3
# Parts per worker's share of all bytes: with more than one, the workers finish a large slide at about the same time.
_PARTS_PER_SHARE = 2


@dataclass(frozen=True)
class CohortOptions:
    """Options of a cohort's run.

    Attributes:
        configs: configs of the bundle; later ones override earlier ones.
        overrides: values of the configs' keys.
        section: section of datalists.
        name_by: column that names the output folders.
        mpp: µm/px of slides whose entry has none; it overrides the file's own value.
        series: number of the image in the file, for slides whose entry has none.
        ray: address of a Ray cluster; None runs on this machine.
        workers: number of workers; by default one per GPU, else one per machine.
        cpus: threads of each worker; on a cluster, processors reserved for it.
        gpus: GPUs of each worker, 0 or 1; by default 1 where there are any. Needed on a cluster whose machines have not
            joined yet.
        cache: local folder for downloaded slides and for outputs before their upload.
        cache_gb: most gigabytes of slides in the cache.
        retries: how often a slide is retried.
        split_mb: megabytes below which a slide is not split among workers.
    """

    configs: Sequence[str] = ("inference.yaml",)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    section: str = "testing"
    name_by: str | None = None
    mpp: float | None = None
    ray: str | None = None
    workers: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    cache: str | None = None
    cache_gb: float = 50.0
    retries: int = 3
    split_mb: float = 200.0
    series: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "cpus"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if self.gpus not in (None, 0, 1):
            raise ValueError(f"--gpus must be 0 or 1, not {self.gpus}: a worker runs its network on one")
        if self.cache_gb <= 0 or self.retries < 0 or self.split_mb < 0:
            raise ValueError("--cache_gb must be above 0, --retries and --split_mb not below")


def run_cohort(bundle: str, slides: Any, output: str, options: CohortOptions) -> CohortReport:
    """Segment every slide of a manifest that is not segmented yet.

    Args:
        bundle: name or folder of the bundle.
        slides: manifest, see :func:`read_manifest`.
        output: path or URL of the outputs.
        options: options of the run.

    Returns:
        The status of each slide, which is also written to ``cohort.csv``, ``cohort.json`` and ``manifest.sha256``.

    Raises:
        ValueError: the manifest, the bundle, the output or the workers cannot be used; the message says why.
    """
    try:
        listed = read_manifest(slides, options.section, options.name_by, options.mpp, options.series)
    except ValueError as error:
        raise ValueError(redact(str(error))) from error
    cache = os.path.abspath(options.cache or os.path.join(tempfile.gettempdir(), "multimag-cache"))
    root = os.path.abspath(find_bundle(bundle))
    files = config_files(root, options.configs)
    overrides = current_settings(files, options.overrides)
    check_keys(files, overrides, (one.name for one in fields(options)))
    configs = tuple(os.path.abspath(path) for path in files)
    store = open_store(output, Path(cache) / "outputs")
    settings = WorkerSettings(
        root,
        configs,
        overrides,
        store.location,
        cache,
        int(options.cache_gb * 1e9),
        threads=options.cpus,
    )
    with (
        _exclusive_lock(store),
        _shared_storage_probe(store) as (token, nonce),
        _workers_for(options, settings) as workers,
    ):
        return _Cohort(listed, store, workers, options, token, nonce).run()


def segment_cohort(bundle: str, slides: Any, output: str, options: CohortOptions) -> None:
    """Segment a cohort and print the result; see :func:`run_cohort`.

    Raises:
        SystemExit: slides failed or were not reached; the message names them.
        ValueError: see :func:`run_cohort`.
    """
    report = run_cohort(bundle, slides, output, options)
    counts = report.counts()
    print(f"{', '.join(f'{count} {status}' for status, count in counts.items() if count)}: {output}")
    print(f"one row per slide in {TABLE}, checksums of all outputs in {CHECKSUMS}")
    if counts[FAILED] or counts[NOT_REACHED]:
        raise SystemExit(format_failures(report))


class _Cohort:
    """One run over a manifest."""

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        store: OutputStore,
        workers: Sequence[WorkerHandle],
        options: CohortOptions,
        token: str,
        nonce: bytes,
    ) -> None:
        self._slides, self._store, self._options, self._nonce = slides, store, options, nonce
        self._workers = workers
        self._report = CohortReport(slides)
        self._agreed: dict[str, Any] | None = None
        # Reason for each excluded worker.
        self._excluded: dict[str, str] = {}
        # Name and seconds of each part of a slide, None until it is predicted.
        self._parts: dict[str, list[tuple[str, float] | None]] = {}
        # The most retries that a part of a slide needed.
        self._part_retries: Counter[str] = Counter()
        remote = is_url(store.location) or any(is_url(slide.location) for slide in slides)
        self._dispatcher = Dispatcher(
            workers,
            ("describe", (token,)),
            self._accept,
            self._on_finished,
            options.retries,
            _MAX_CONCURRENCY if remote else 1,
            on_tick=self._show_progress,
        )

    def run(self) -> CohortReport:
        logger.info("%d slides, %d workers: they load the network", len(self._slides), len(self._workers))
        self._dispatcher.wait_until_ready()
        sources = self._check_slides()
        try:
            self._report.start_progress({name: source.size for name, source in sources.items()})
            self._dispatcher.run(self._tasks_for(sources))
        except BaseException:
            with suppress(Exception):  # The reason why the run ended matters more.
                self._write_report()
            raise
        self._write_report()
        return self._report

    def _write_report(self) -> None:
        self._report.close_progress()
        agreed = self._agreed or {}
        about = {"settings": agreed.get("settings"), "circumstances": agreed.get("circumstances")}
        about |= {"workers": len(self._workers), "left_out": self._excluded}
        self._report.write(self._store, about)

    def _accept(self, worker: WorkerHandle, answer: Mapping[str, Any]) -> str | None:
        """Return the reason to exclude a worker, or None.

        Raises:
            ValueError: the worker writes elsewhere, or would produce other outputs than the first.
        """
        if "failed" in answer:
            self._excluded[worker.name] = str(answer["failed"])
            return self._excluded[worker.name]
        if answer["token"] != self._nonce:
            raise ValueError(
                f"{answer['worker_id']} does not see {self._store.display_location} as this machine does. Name a "
                "folder that all share, or a URL"
            )
        compared = {key: answer[key] for key in ("settings", "circumstances", "outputs", "overwrite")}
        if self._agreed is None:
            self._agreed = compared
        unlike = differences(self._agreed, compared)
        if unlike:
            raise ValueError(
                f"{answer['worker_id']} differs from the first worker: {'; '.join(unlike)}. Set all machines up alike"
            )
        return None

    def _check_slides(self) -> dict[str, SlideSource]:
        """Return the sources of the slides to segment. Enter finished and unusable slides in the report."""
        sources: dict[str, SlideSource] = {}
        with ThreadPoolExecutor(_STAT_THREADS) as pool:
            found = pool.map(self._stat, self._slides)
            bar = tqdm(found, total=len(self._slides), desc="checking slides", unit="slide", delay=2, leave=False)
            for slide, (source, record, reason) in zip(self._slides, bar, strict=True):
                if reason is not None:
                    self._report.add_failed(slide.name, reason, 1)
                elif record is not None:
                    self._report.add_segmented_before(slide.name, record)
                elif source is not None:
                    sources[slide.name] = source
        return sources

    def _stat(self, slide: CohortSlide) -> tuple[SlideSource | None, dict[str, Any] | None, str | None]:
        """Return a slide's source, the record of its outputs if complete, and the reason if it cannot be segmented."""
        try:
            source = stat_slide(slide.location)
            assert self._agreed is not None
            record = None if self._agreed["overwrite"] else self._store.record(slide.name)
            if record is not None:
                self._check_record(slide, source, record)
                if not {path.partition("/")[0] for path in record["files"]} >= set(self._agreed["outputs"]):
                    record = None
            return source, record, None
        except Exception as error:
            return None, None, redact(str(error))

    def _check_record(self, slide: CohortSlide, source: SlideSource, record: Mapping[str, Any]) -> None:
        """Raise SettingsError if outputs were made from another slide, or with other settings."""
        assert self._agreed is not None
        now = {**self._agreed["settings"], "slide": source.identity, "entry": entry_settings(slide)}
        then = {**self._store.settings(record["settings"]), "slide": record["slide"], "entry": record["entry"]}
        check_same(Path(f"{self._store.display_location}/{slide.name}"), then, now)

    def _tasks_for(self, sources: Mapping[str, SlideSource]) -> list[SlideTask]:
        """Return a task per slide, or per part of a slide that is larger than one worker's share of all bytes."""
        by_name = {slide.name: slide for slide in self._slides}
        workers = len(self._workers)
        share = sum(source.size for source in sources.values()) / workers
        tasks = []
        for name, source in sources.items():
            parts = 1
            if workers > 1 and source.size >= max(share, self._options.split_mb * 1e6):
                parts = max(1, math.ceil(_PARTS_PER_SHARE * source.size / max(1.0, share)))
            if parts == 1:
                tasks.append(SlideTask(by_name[name], source.size))
                continue
            self._parts[name] = [None] * parts
            tasks.extend(SlideTask(by_name[name], source.size / parts, (number, parts)) for number in range(parts))
        return tasks

    def _on_finished(self, task: SlideTask, result: Mapping[str, Any]) -> list[SlideTask]:
        """Enter a finished task in the report. Return the task that puts a slide's parts together after the last."""
        name = task.slide.name
        tries = task.tries + (self._part_retries[name] if task.part is None else 0)
        if "failed" in result:
            # The first part to fail gives the reason for the slide.
            if task.part is None or self._parts.pop(name, None) is not None:
                self._report.add_failed(name, result["failed"], tries)
        elif task.part is not None:
            parts = self._parts.get(name)
            if parts is not None:
                parts[task.part[0]] = (result["part"], result["seconds"])
                self._part_retries[name] = max(self._part_retries[name], task.tries - 1)
                if all(parts):
                    return [SlideTask(task.slide, task.size, parts=tuple(part for part in parts if part))]
        else:
            self._report.add_segmented(name, result["record"], tries)
        return []

    def _show_progress(self) -> None:
        self._report.show_progress(self._dispatcher.ready_workers)


@contextmanager
def _exclusive_lock(store: OutputStore) -> Iterator[None]:
    """Keep other runs out of the output folder. A URL cannot be locked."""
    if not isinstance(store, FolderStore):
        yield
        return
    path = store.working / ".cohort" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{store.display_location}: another cohort is at work here. Wait for it, or choose another"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _shared_storage_probe(store: OutputStore) -> Iterator[tuple[str, bytes]]:
    """Write a file to the store, by whose contents workers prove that they see the same store."""
    name, nonce = f".cohort/token-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.write(name, nonce)
    try:
        yield name, nonce
    finally:
        with suppress(Exception):  # A file left over does no harm; what ended the run matters more.
            store.delete(name)


@contextmanager
def _workers_for(options: CohortOptions, settings: WorkerSettings) -> Iterator[Sequence[WorkerHandle]]:
    workers = _ray_workers(options, settings) if options.ray else _local_workers(options, settings)
    try:
        yield workers
    finally:
        for worker in workers:
            with suppress(Exception):  # The others must end, too.
                worker.shutdown()


def _ray_workers(options: CohortOptions, settings: WorkerSettings) -> list[WorkerHandle]:
    assert options.ray is not None
    ray = connect(options.ray)
    count, cpus, gpus = plan_workers(ray, options.workers, options.cpus, options.gpus)
    settings = replace(settings, device="cuda:0" if gpus else "cpu", threads=cpus)
    return [RayWorker(ray, f"worker {number}", settings, cpus, gpus, _MAX_CONCURRENCY) for number in range(count)]


def _local_workers(options: CohortOptions, settings: WorkerSettings) -> list[WorkerHandle]:
    gpus = 0 if options.gpus == 0 else torch.cuda.device_count()
    if options.gpus and not gpus:
        raise ValueError("--gpus 1, but PyTorch finds no GPU here. Leave it out to run on the processor")
    count = options.workers or max(1, gpus)
    threads = options.cpus or max(1, (os.cpu_count() or 1) // count)
    workers: list[WorkerHandle] = []
    for number in range(count):
        settings = replace(settings, device=f"cuda:{number % gpus}" if gpus else "cpu", threads=threads)
        workers.append(LocalWorker(f"worker {number}", functools.partial(SlideWorker, settings), _MAX_CONCURRENCY))
    return workers

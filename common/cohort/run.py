"""A cohort from its manifest to its outputs."""

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
from ..bundle.keys import check_keys, config_files
from ..settings import check_same, differences
from .account import FAILED, LEFT, SUMS, TABLE, Account, shown_failures
from .crew import LocalMember, Member
from .dispatch import Dispatcher, Task
from .locations import is_url, redacted
from .manifest import CohortSlide, read_manifest
from .ray_crew import RayMember, connect, workers_of
from .staging import Source, look_up
from .store import FolderStore, OutputStore, open_store
from .worker import Worker, WorkerSettings, wanted_of

logger = logging.getLogger(__name__)

# Slides that are looked up at a time: nearly all of it is waiting for a server.
_LOOKERS = 32
# Tasks of a worker at a time: one is fetched and one handed over while one is segmented.
_LANES = 3
# Parts of a slide per share of a worker: so that the last to finish is not long alone.
_PARTS_PER_SHARE = 2


@dataclass(frozen=True)
class CohortOptions:
    """How a cohort is run.

    Attributes:
        configs: of the bundle, later ones laid over earlier ones.
        overrides: values of the configs' keys.
        section: of datalists.
        name_by: column that names the output folders.
        mpp: µm/px of slides whose entry says none, in place of what the file says.
        series: which image of the file, of slides whose entry does not say.
        ray: a cluster's address; None runs on this machine.
        workers: how many; by default one per GPU, else one per machine.
        cpus: threads of each; on a cluster, processors that are its own.
        gpus: of each, 0 or 1; by default 1 where there are any. On a cluster whose machines are yet to come, say it.
        cache: local folder for slides and outputs on their way.
        cache_gb: of slides at most.
        retries: how often a slide is tried again.
        split_mb: slides below that many megabytes stay whole.
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


def run_cohort(bundle: str, slides: Any, output: str, options: CohortOptions) -> Account:
    """Segment all slides of a manifest that are not segmented yet.

    Args:
        bundle: its name or folder.
        slides: see :func:`read_manifest`.
        output: path or URL.
        options: how.

    Returns:
        What became of each slide; ``cohort.csv``, ``cohort.json`` and ``manifest.sha256`` say it, too.

    Raises:
        ValueError: manifest, bundle, outputs' place or workers are not as they must be; says which.
    """
    try:
        listed = read_manifest(slides, options.section, options.name_by, options.mpp, options.series)
    except ValueError as error:
        raise ValueError(redacted(str(error))) from error
    cache = os.path.abspath(options.cache or os.path.join(tempfile.gettempdir(), "multimag-cache"))
    root = os.path.abspath(find_bundle(bundle))
    files = config_files(root, options.configs)
    check_keys(files, options.overrides, (one.name for one in fields(options)))
    configs = tuple(os.path.abspath(path) for path in files)
    store = open_store(output, Path(cache) / "outputs")
    given = WorkerSettings(
        root,
        configs,
        dict(options.overrides),
        store.location,
        cache,
        int(options.cache_gb * 1e9),
        threads=options.cpus,
    )
    with _alone(store), _token(store) as (token, secret), _crew(options, given) as members:
        return _Cohort(listed, store, members, options, token, secret).run()


def segment_cohort(bundle: str, slides: Any, output: str, options: CohortOptions) -> None:
    """Segment a cohort and print what became of it; see :func:`run_cohort`.

    Raises:
        SystemExit: slides failed or were not reached; names them.
        ValueError: see :func:`run_cohort`.
    """
    account = run_cohort(bundle, slides, output, options)
    counts = account.counts()
    print(f"{', '.join(f'{count} {status}' for status, count in counts.items() if count)}: {output}")
    print(f"a row per slide in {TABLE}, what was made in {SUMS}")
    if counts[FAILED] or counts[LEFT]:
        raise SystemExit(shown_failures(account))


class _Cohort:
    """One run over a manifest."""

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        store: OutputStore,
        members: Sequence[Member],
        options: CohortOptions,
        token: str,
        secret: bytes,
    ) -> None:
        self._slides, self._store, self._options, self._secret = slides, store, options, secret
        self._members = members
        self._account = Account(slides)
        self._common: dict[str, Any] | None = None
        self._left_out: dict[str, str] = {}
        self._parts: dict[str, list[tuple[str, float] | None]] = {}
        # The most retries that a part of a slide needed.
        self._part_retries: Counter[str] = Counter()
        remote = is_url(store.location) or any(is_url(slide.location) for slide in slides)
        self._dispatcher = Dispatcher(
            members,
            ("describe", (token,)),
            self._accept,
            self._finished,
            options.retries,
            _LANES if remote else 1,
            tick=self._show,
        )

    def run(self) -> Account:
        logger.info("%d slides, %d workers: they load the network", len(self._slides), len(self._members))
        self._dispatcher.wait_for_one()
        sources = self._survey()
        try:
            self._account.begin({name: source.size for name, source in sources.items()})
            self._dispatcher.run(self._tasks(sources))
        except BaseException:
            with suppress(Exception):  # Why the run ended matters more than that it cannot be written down.
                self._publish()
            raise
        self._publish()
        return self._account

    def _publish(self) -> None:
        self._account.end()
        common = self._common or {}
        about = {"settings": common.get("settings"), "circumstances": common.get("circumstances")}
        about |= {"workers": len(self._members), "left_out": self._left_out}
        self._account.publish(self._store, about)

    def _accept(self, member: Member, answer: Mapping[str, Any]) -> str | None:
        """Only workers that do the same in the same place may share a cohort."""
        if "failed" in answer:
            self._left_out[member.name] = str(answer["failed"])
            return self._left_out[member.name]
        if answer["token"] != self._secret:
            raise ValueError(
                f"{answer['where']} does not see {self._store.shown} as this machine does. Name a folder that all "
                "share, or a URL"
            )
        compared = {key: answer[key] for key in ("settings", "circumstances", "outputs", "overwrite")}
        if self._common is None:
            self._common = compared
        unlike = differences(self._common, compared)
        if unlike:
            # Which of them is right, no one can tell here.
            raise ValueError(
                f"{answer['where']} is not as the first worker: {'; '.join(unlike)}. Make all machines alike"
            )
        return None

    def _survey(self) -> dict[str, Source]:
        """What is to be done; what is done, or cannot be, is booked."""
        sources: dict[str, Source] = {}
        with ThreadPoolExecutor(_LOOKERS) as pool:
            looked = pool.map(self._look, self._slides)
            bar = tqdm(looked, total=len(self._slides), desc="looking slides up", unit="slide", delay=2, leave=False)
            for slide, (source, record, reason) in zip(self._slides, bar, strict=True):
                if reason is not None:
                    self._account.failed(slide.name, reason, 1)
                elif record is not None:
                    self._account.segmented(slide.name, record, 0, before=True)
                elif source is not None:
                    sources[slide.name] = source
        return sources

    def _look(self, slide: CohortSlide) -> tuple[Source | None, dict[str, Any] | None, str | None]:
        """Where a slide is, the record of its outputs if they are there, or why it cannot be segmented."""
        try:
            source = look_up(slide.location)
            assert self._common is not None
            record = None if self._common["overwrite"] else self._store.record(slide.name)
            if record is not None:
                self._check_record(slide, source, record)
                if not {path.partition("/")[0] for path in record["files"]} >= set(self._common["outputs"]):
                    record = None
            return source, record, None
        except Exception as error:
            return None, None, redacted(str(error))

    def _check_record(self, slide: CohortSlide, source: Source, record: Mapping[str, Any]) -> None:
        """Raise SettingsError if outputs were made of another slide, or otherwise."""
        assert self._common is not None
        now = {**self._common["settings"], "slide": source.identity, "entry": wanted_of(slide)}
        then = {**self._store.settings(record["settings"]), "slide": record["slide"], "entry": record["entry"]}
        check_same(Path(f"{self._store.shown}/{slide.name}"), then, now)

    def _tasks(self, sources: Mapping[str, Source]) -> list[Task]:
        """A task per slide; of a slide that is more than one worker's share of all, one per part."""
        by_name = {slide.name: slide for slide in self._slides}
        workers = len(self._members)
        share = sum(source.size for source in sources.values()) / workers
        tasks = []
        for name, source in sources.items():
            parts = 1
            if workers > 1 and source.size >= max(share, self._options.split_mb * 1e6):
                parts = max(1, math.ceil(_PARTS_PER_SHARE * source.size / max(1.0, share)))
            if parts == 1:
                tasks.append(Task(by_name[name], source.size))
                continue
            self._parts[name] = [None] * parts
            tasks.extend(Task(by_name[name], source.size / parts, (number, parts)) for number in range(parts))
        return tasks

    def _finished(self, task: Task, result: Mapping[str, Any]) -> list[Task]:
        name = task.slide.name
        tries = task.tries + (self._part_retries[name] if task.part is None else 0)
        if "failed" in result:
            # Of a slide in parts, the first to fail says why.
            if task.part is None or self._parts.pop(name, None) is not None:
                self._account.failed(name, result["failed"], tries)
        elif task.part is not None:
            parts = self._parts.get(name)
            if parts is not None:
                parts[task.part[0]] = (result["part"], result["seconds"])
                self._part_retries[name] = max(self._part_retries[name], task.tries - 1)
                if all(parts):
                    return [Task(task.slide, task.size, parts=tuple(part for part in parts if part))]
        else:
            self._account.segmented(name, result["record"], tries)
        return []

    def _show(self) -> None:
        self._account.show(self._dispatcher.workers)


@contextmanager
def _alone(store: OutputStore) -> Iterator[None]:
    """Keep other runs out of a folder; of a URL, no one can be."""
    if not isinstance(store, FolderStore):
        yield
        return
    path = store.working / ".cohort" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{store.shown}: another cohort is at work here. Wait for it, or choose another") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _token(store: OutputStore) -> Iterator[tuple[str, bytes]]:
    """A file where the outputs go, by which workers show that they see the same place."""
    name, secret = f".cohort/token-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.write(name, secret)
    try:
        yield name, secret
    finally:
        with suppress(Exception):  # It harms no one; what ended the run matters.
            store.forget(name)


@contextmanager
def _crew(options: CohortOptions, given: WorkerSettings) -> Iterator[Sequence[Member]]:
    members = _on_cluster(options, given) if options.ray else _on_this_machine(options, given)
    try:
        yield members
    finally:
        for member in members:
            with suppress(Exception):  # Each is to end, whatever another does.
                member.leave()


def _on_cluster(options: CohortOptions, given: WorkerSettings) -> list[Member]:
    assert options.ray is not None
    ray = connect(options.ray)
    count, cpus, gpus = workers_of(ray, options.workers, options.cpus, options.gpus)
    settings = replace(given, device="cuda:0" if gpus else "cpu", threads=cpus)
    return [RayMember(ray, f"worker {number}", settings, cpus, gpus, _LANES) for number in range(count)]


def _on_this_machine(options: CohortOptions, given: WorkerSettings) -> list[Member]:
    gpus = 0 if options.gpus == 0 else torch.cuda.device_count()
    if options.gpus and not gpus:
        raise ValueError("--gpus 1, but PyTorch finds no GPU here. Leave it out to run on the processor")
    count = options.workers or max(1, gpus)
    threads = options.cpus or max(1, (os.cpu_count() or 1) // count)
    members: list[Member] = []
    for number in range(count):
        settings = replace(given, device=f"cuda:{number % gpus}" if gpus else "cpu", threads=threads)
        members.append(LocalMember(f"worker {number}", functools.partial(Worker, settings), _LANES))
    return members

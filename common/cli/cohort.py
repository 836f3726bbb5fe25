"""Commands for many slides on many machines."""

from __future__ import annotations

from typing import Any

from .values import listed


def cohort(
    bundle: str,
    slides: str,
    output: str,
    config: str | tuple[str, ...] = (),
    section: str = "testing",
    name_by: str | None = None,
    mpp: float | None = None,
    series: int | None = None,
    ray: str | None = None,
    workers: int | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    cache: str | None = None,
    cache_gb: float = 50.0,
    retries: int = 3,
    split_mb: float = 200.0,
    **settings: Any,
) -> None:
    """Segment many slides, on this machine or a Ray cluster. The exit code is not 0 if any slide failed.

    Args:
        bundle: name (dmmn, mrn, ...) or folder of the bundle, at the same path on all machines.
        slides: datalist, table (CSV with a column image), list of slides (.txt), slide or glob; path or URL (s3://,
            gs://, https://).
        output: folder that all machines share, or a URL.
        config: overlays on the bundle's inference.yaml, separated by commas: names in its configs, such as
            demo.yaml, or paths.
        section: section of a datalist.
        name_by: column that names the output folders; the file's name by default.
        mpp: micrometres per pixel of slides whose entry has none; overrides the file's own value.
        series: number of the image in a file of several, from 0, for slides whose entry has none.
        ray: address of a Ray cluster; auto finds the cluster that this machine belongs to.
        workers: number of workers; by default one per GPU, or one per machine without GPUs.
        cpus: processors of each worker.
        gpus: GPUs of each worker, 0 or 1; by default 1 where there are any.
        cache: local folder for downloaded slides and for outputs before their upload.
        cache_gb: most gigabytes of slides in the cache.
        retries: how often a slide is retried after a failure that may be temporary.
        split_mb: megabytes below which a slide is never split among workers.
        settings: keys of the configs, as --tissue True.
    """
    from ..bundle.keys import known_settings
    from ..bundle.run import say_loading

    configs = ("inference.yaml", *listed(config))
    overrides = known_settings(bundle, configs, settings, ("bundle", "slides", "output", "config", "workers", "cache"))
    say_loading()
    from ..cohort.run import CohortOptions, segment_cohort

    options = CohortOptions(
        configs, overrides, section, name_by, mpp, ray, workers, cpus, gpus, cache, cache_gb, retries, split_mb, series
    )
    segment_cohort(bundle, slides, output, options)


def cohort_estimate(
    slides: int = 100_000,
    measured: str | None = None,
    seconds_per_mm2: float | None = None,
    mm2: float | None = None,
    slide_gb: float | None = None,
    output_gb: float | None = None,
    overhead_seconds: float | None = None,
    gbit: float = 10.0,
    worker_gbit: float = 10.0,
    max_slides_per_second: float = 50.0,
    workers: int | tuple[int, ...] = (1, 4, 16, 64, 256, 1024),
) -> None:
    """Estimate how long a large cohort takes, from a small one or from costs that you give.

    Args:
        slides: number of slides.
        measured: output of a finished cohort (path or URL), from which costs that are not given are measured.
        seconds_per_mm2: seconds of one worker per predicted mm².
        mm2: predicted area of a slide.
        slide_gb: gigabytes of a slide.
        output_gb: gigabytes of a slide's outputs.
        overhead_seconds: seconds of one worker per slide, besides those for its area.
        gbit: Gbit/s between the store and all workers.
        worker_gbit: Gbit/s of one worker.
        max_slides_per_second: most slides per second that the driver assigns.
        workers: number of workers; several separated by commas.
    """
    from ..cohort.estimate import costs_from_options, format_estimate, resolve_costs

    given = costs_from_options(seconds_per_mm2, mm2, slide_gb, output_gb, overhead_seconds)
    costs = resolve_costs(measured, given)
    counts = (workers,) if isinstance(workers, int) else workers
    print(format_estimate(costs, slides, gbit, worker_gbit, max_slides_per_second, counts))

"""Many slides on many machines."""

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
    """Segment many slides, on this machine or a Ray cluster. Leaves with a non-zero exit code if any failed.

    Args:
        bundle: its name (dmmn, mrn, ...) or folder, at the same place on all machines.
        slides: datalist, table (CSV with a column image), list of slides (.txt), slide or glob; path or URL (s3://,
            gs://, https://).
        output: folder that all machines share, or a URL.
        config: overlays on the bundle's inference.yaml, separated by commas: names in its configs, such as
            demo.yaml, or paths.
        section: of a datalist.
        name_by: column that names the output folders; the file's name by default.
        mpp: micrometres per pixel of slides whose entry says none, in place of what the file says.
        series: which image of a file of several, of slides whose entry does not say, from 0.
        ray: address of a Ray cluster; auto finds the one that this machine is of.
        workers: how many; by default one per GPU, or one per machine without.
        cpus: processors of each.
        gpus: of each, 0 or 1; by default 1 where there are any.
        cache: local folder for slides and outputs on their way.
        cache_gb: gigabytes of slides in it at most.
        retries: how often a slide is tried again after what may pass.
        split_mb: slides of less than so many megabytes are never split among workers.
        settings: keys of the configs, as --tissue True.
    """
    from ..bundle.keys import known_settings
    from ..bundle.run import say_loading

    configs = ("inference.yaml", *listed(config))
    known = known_settings(bundle, configs, settings, ("bundle", "slides", "output", "config", "workers", "cache"))
    say_loading()
    from ..cohort.run import CohortOptions, segment_cohort

    figures = (mpp, ray, workers, cpus, gpus, cache, cache_gb, retries, split_mb, series)
    segment_cohort(bundle, slides, output, CohortOptions(configs, known, section, name_by, *figures))


def cohort_estimate(
    slides: int = 100_000,
    measured: str | None = None,
    seconds_per_mm2: float | None = None,
    mm2: float | None = None,
    slide_gb: float | None = None,
    output_gb: float | None = None,
    seconds_per_slide: float | None = None,
    gbit: float = 10.0,
    worker_gbit: float = 10.0,
    dispatched: float = 50.0,
    workers: int | tuple[int, ...] = (1, 4, 16, 64, 256, 1024),
) -> None:
    """Say how long a large cohort will take, from what a small one took or from figures of your own.

    Args:
        slides: how many.
        measured: output of a finished cohort (path or URL), which the figures below are read off where not given.
        seconds_per_mm2: of one worker, for a mm² that is predicted.
        mm2: predicted of a slide.
        slide_gb: gigabytes of a slide.
        output_gb: gigabytes of its outputs.
        seconds_per_slide: seconds of one worker for each slide, besides those for its area.
        gbit: Gbit/s between the store and all workers.
        worker_gbit: Gbit/s of one worker.
        dispatched: slides per second that the driver gives out at most.
        workers: several with commas.
    """
    from ..cohort.estimate import costs_of, given_costs, shown_estimate

    costs = costs_of(measured, given_costs(seconds_per_mm2, mm2, slide_gb, output_gb, seconds_per_slide))
    counts = (workers,) if isinstance(workers, int) else workers
    print(shown_estimate(costs, slides, gbit, worker_gbit, dispatched, counts))

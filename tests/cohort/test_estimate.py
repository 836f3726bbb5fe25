"""The estimate of a large cohort follows from the costs of a slide."""

from __future__ import annotations

import pytest

from common.cohort.estimate import (
    Costs,
    costs_from_options,
    estimate_table,
    format_estimate,
    measure_costs,
    resolve_costs,
)

# 2 s per mm² of 100 mm²: 200 s; 1 GB, 8 Gbit, comes, and 0.25 GB goes.
COSTS = Costs(2.0, 100.0, 1e9, 0.25e9, 0.0)


def test_few_workers_set_the_pace_then_the_network_then_the_driver():
    assert COSTS.hours(3600, 1, 10, 10, 50) == (200.0, "workers")
    assert COSTS.hours(3600, 100, 10, 10, 50) == (2.0, "workers")
    # 10 Gbit a slide: one a second at 10 Gbit/s, however many workers.
    assert COSTS.hours(3600, 1000, 10, 10, 50) == (1.0, "the store's network")
    assert COSTS.useful_workers(10, 50) == 200
    assert COSTS.hours(3600, 100, 1000, 0.01, 50) == (10.0, "a worker's network")
    assert COSTS.hours(3600, 10**6, 10**6, 10, 2) == (0.5, "the driver")


def test_costs_are_read_off_a_finished_cohort(tmp_path):
    (tmp_path / "cohort.csv").write_text(
        "name,status,bytes,output_bytes,segmenting,predicted_mm2\n"
        "a,segmented,100,10,3.0,2.0\nb,segmented before,300,30,9.0,4.0\nc,failed,,,,\n"
    )
    costs = measure_costs(str(tmp_path))
    assert costs == Costs(2.0, 3.0, 200.0, 20.0)
    table = estimate_table(costs, 1000)
    assert list(table["hours"]) == sorted(table["hours"], reverse=True)
    with pytest.raises(ValueError, match="no cohort.csv in it"):
        measure_costs(str(tmp_path / "none"))


def test_figures_of_one_s_own_replace_the_measured_ones_and_are_given_in_gigabytes():
    costs = resolve_costs(None, costs_from_options(2.0, 100.0, 1.0, 0.25, 0.0))
    assert costs == COSTS
    assert costs_from_options(None, 100.0, None, 0.25, None) == {"mm2": 100.0, "output_bytes": 0.25e9}
    first, header, row, last = format_estimate(costs, 3600, 10, 10, 50, [100]).splitlines()
    assert first == "a slide: 100 mm² in 200 s of one worker (2 s/mm²), 1 GB in, 0.25 GB out"
    assert header.split() == ["workers", "hours", "slides_per_hour", "bottleneck"]
    assert row.split() == ["100", "2.0", "1800.0", "workers"]
    assert last == "more than 200 workers make it no faster"

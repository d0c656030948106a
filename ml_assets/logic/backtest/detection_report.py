"""A short report of detection: false alarms, and the power for each kind of drift.

Not here: drawing and judging streams (see `ml_assets.logic.backtest.detection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import polars as pl

from ml_assets.contracts.simulation import Detection, How
from ml_assets.logic.backtest.detection import FIRST, Population, count_false_alarms, measure_power
from ml_assets.logic.backtest.injection import Injection, Kind

OnDone = Callable[[int, int], None]
HOWS: Final[tuple[How, ...]] = ("days", "rows")
_OF_NUMBERS: Final[Mapping[Kind, float]] = {"unit": 0.1, "stuck": 1.0, "missing": 0.5, "slope": 1.0}


def short_figures(
    population: Population,
    *,
    days: int = 200,
    trials: int = 10,
    seed: int = 0,
    on_done: OnDone = lambda _done, _total: None,
) -> Detection:
    """Return what can be measured in some seconds: one drift of each kind, in the most important features.

    `on_done` is called after each line of the tables with the number of finished lines and of all lines.
    """
    drifts = [*_in_what_matters(population)]
    total = len(HOWS) + len(drifts)
    alarms, power = {}, []
    for how in HOWS:
        alarms[how] = count_false_alarms(population, days=days, how=how, seed=seed)
        on_done(len(alarms), total)
    for drift in drifts:
        power.append(measure_power(population, drift, trials=trials, seed=seed))
        on_done(len(HOWS) + len(power), total)
    drawn_from = population.rows["day"].unique().sort()
    return Detection(first_day=drawn_from[0], last_day=drawn_from[-1], false_alarms=alarms, power=tuple(power))


def _in_what_matters(population: Population) -> Iterator[Injection]:
    """Yield one drift of each kind, in the most important number and the most important category."""
    names = sorted(population.weights, key=lambda name: -population.weights[name])
    numbers = [name for name in names if population.rows.schema[name].is_numeric()]
    categories = [name for name in names if population.rows.schema[name] == pl.String]
    for name in numbers[:1]:
        for kind, size in _OF_NUMBERS.items():
            yield Injection(kind, name, FIRST, size)
    for name in categories[:1]:
        yield Injection("category", name, FIRST, 0.1)
    yield Injection("flip", population.target, FIRST, 0.3)

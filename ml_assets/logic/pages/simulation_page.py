"""The page of a backtest: the results of each policy, week by week, and each retraining with its cause and verdict.

Nothing is measured here. The page needs neither a network nor a script, can be printed, and has a light and a dark
style.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ml_assets.contracts.simulation import PolicyResult, Simulation, SimulationSummary
from ml_assets.logic.backtest.simulation import POLICIES
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.plots.drawing import metric_name, number, share
from ml_assets.logic.plots.simulation import fits_plot, gains_plot, weeks_plot

if TYPE_CHECKING:
    from jinja2 import Environment

NEVER: Final = "never"
TRIGGERED: Final = "triggered"
SECTIONS: Final = (
    ("policies", "Results by policy"),
    ("weeks", "Week by week"),
    ("turns", "Where triggered gained or lost"),
    ("retrainings", "Each retraining"),
    ("held", "Postponed retrainings"),
    ("rules", "Reliability of the rules"),
    ("how", "Method"),
)
_WORST: Final = 6
_BEST: Final = 4


def page_of(simulation: Simulation) -> Simulation:
    """Return the simulation with its page."""
    from markupsafe import Markup

    summary = simulation.summary
    metric = find_metric(summary.metric, summary.task)
    policies = [it.policy for it in summary.policies]
    plots = {
        "weeks": weeks_plot(simulation.weeks, simulation.events, metric),
        "fits": fits_plot(simulation.weeks, simulation.events),
    }
    if NEVER in policies and len(policies) > 1:
        plots["gains"] = gains_plot(simulation.weeks, metric)
    page = (
        _environment()
        .get_template("backtest.html.jinja")
        .render(
            plots={name: Markup(svg) for name, svg in plots.items()},  # noqa: S704 - matplotlib escapes the texts in it
            sections=SECTIONS,
            summary=summary,
            tiles=[*_tiles(summary)],
            turns=[*_turns(simulation.weekly_gains)],
            own=_events(simulation.events, TRIGGERED),
            calendars=[(name, _events(simulation.events, name)) for name in policies if name not in (NEVER, TRIGGERED)],
            held=[*_spans(simulation.postponed)],
            detection=simulation.detection,
            facts=[*_facts(summary)],
            reported_from=summary.selection_last_day + timedelta(days=1),
        )
    )
    return replace(simulation, html=f"{page.strip()}\n")


def _tiles(summary: SimulationSummary) -> Iterator[dict[str, str]]:
    """Yield the figures at the top: the shown policy, and what it costs."""
    by_policy = {it.policy: it for it in summary.policies}
    shown = by_policy.get(TRIGGERED, summary.policies[-1])
    on = f"best on {summary.first_day} to {summary.selection_last_day}, which are not reported"
    yield {"name": "chosen policy", "figure": summary.chosen_policy or "not judged", "aside": on}
    yield {
        "name": f"{metric_name(summary.metric)}, {shown.policy}",
        "figure": _fixed(shown.metric.value),
        "aside": f"95 % interval {shown.metric.ends('z.4f')}",
    }
    if shown.gain is not None:
        aside = f"95 % interval {shown.gain.ends('+z.4f')}"
        yield {"name": "gain over never", "figure": _signed(shown.gain.value), "aside": aside}
    if shown.share_of_weekly is not None and shown.policy != "weekly":
        yield {
            "name": "of weekly's gain",
            "figure": f"{shown.share_of_weekly:.0%}",
            "aside": f"of {summary.selection_last_day + timedelta(days=1)} to {summary.last_day}",
        }
    weekly = by_policy.get("weekly")
    aside = f"weekly retraining: {weekly.fits}" if weekly is not None and weekly is not shown else "after the first"
    yield {"name": "models trained", "figure": str(shown.fits), "aside": aside}


def _turns(turns: pl.DataFrame) -> Iterator[tuple[str, int, int, list[dict[str, Any]]]]:
    """Yield, by policy, how many weeks were lost and gained against it, and the worst and best of them."""
    for name in reversed(POLICIES):
        ordered = turns.filter(against=name).sort("gain")
        if ordered.is_empty():
            continue
        lost, gained = ordered.filter(pl.col("gain") < 0), ordered.filter(pl.col("gain") > 0)
        shown = [*lost.head(_WORST).to_dicts(), *gained.tail(_BEST).reverse().to_dicts()]
        yield name, lost.height, gained.height, shown


def _events(events: pl.DataFrame, policy: str) -> list[dict[str, Any]]:
    return events.filter(pl.col("policy") == policy).to_dicts()


def _spans(held: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield days in a row on which a retraining was postponed as one line, with the sentence of the last day."""
    rows = held.sort("day").to_dicts()
    for _, span in itertools.groupby(enumerate(rows), key=lambda it: it[1]["day"].toordinal() - it[0]):
        days = [row for _, row in span]
        last = days[-1]
        yield {"first": days[0]["day"], "last": last["day"], "days": len(days), "sentence": last["sentence"]}


def _facts(summary: SimulationSummary) -> Iterator[tuple[str, str]]:
    yield "days to choose on", f"{summary.first_day} to {summary.selection_last_day}"
    reported = f"{summary.selection_last_day + timedelta(days=1)} to {summary.last_day}"
    left_out = f"{summary.unlabelled:,} {summary.unlabelled_words}"
    yield "days reported", f"{reported}, {summary.rows:,} labelled predictions, {left_out}"
    if summary.weight is not None:
        yield "weighted by", f"'{summary.weight}'; counts are not weighted"
    yield "injected", "; ".join(summary.injections) or "nothing"
    when = "again at each retraining" if summary.is_tuned else f"once, as of {summary.first_day - timedelta(days=1)}"
    yield "features and parameters", f"chosen {when}, within the declared budget"
    yield "features" if not summary.is_tuned else "features, last", ", ".join(summary.features)
    values = ", ".join(f"{name} {_plain(value)}" for name, value in summary.parameters.items())
    rounds = "" if summary.rounds is None else f"; {summary.rounds} rounds"
    yield "parameters" if not summary.is_tuned else "parameters, last", f"{values}{rounds}"
    yield "rules", ", ".join(f"{name} {_plain(value)}" for name, value in summary.rules.items())
    yield "duration", f"{summary.seconds:,.0f} s"


def _plain(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _fixed(value: float | None) -> str:
    """Write a metric with four digits: policies differ in the third."""
    return "not measured" if value is None else f"{value:z.4f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+z.4f}".replace("-", "−")


def _verdicts(result: PolicyResult) -> str:
    """Return the verdicts on the trained models, as text."""
    words = [f"{result.promotions} promoted", f"{result.rejections} refused"] if result.fits else ["–"]
    return ", ".join(words + ([f"{result.rollbacks} rolled back"] if result.rollbacks else []))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ml_assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "fixed": _fixed, "signed": _signed, "number": number, "share": share, "metric": metric_name,
        "verdicts": _verdicts,
    }  # fmt: skip
    return environment

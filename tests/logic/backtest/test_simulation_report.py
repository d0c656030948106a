import re
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.simulation import Detection, FalseAlarms, PolicyResult, Power, Simulation, SimulationSummary
from ml_assets.logic.backtest import simulation_report as report
from ml_assets.logic.backtest.simulation import PolicyState
from ml_assets.logic.backtest.simulation_report import Scored
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.pages.simulation_page import page_of
from tests.logic.simulated import FIRST, LAST, Fit, World, day, simulated
from tests.page import Page

pytestmark = pytest.mark.usefixtures("rendered")
AUC = find_metric("roc_auc", "binary")
EVIL = '"><script>alert(1)</script>'
A_DAY = 30
UNTIL = day(29)
GOLDEN = Path(__file__).parent / "golden" / "simulation_page.txt"


@cache
def states() -> tuple[PolicyState[Fit], ...]:
    drifted = frozenset({day(10), day(11), day(30), day(31), day(32)})
    return tuple(simulated(World(drifted=drifted, refused=frozenset({day(31)}), bad=frozenset({day(11)}))).values())


@cache
def scored() -> Scored:
    """Scores that know more the newer the model is."""
    random = np.random.default_rng(1)
    days = np.repeat(np.array([day(n) for n in range((LAST - FIRST).days + 1)], dtype="datetime64[D]"), A_DAY)
    truth = (random.random(len(days)) < 0.4).astype(np.float64)
    noise = random.normal(size=len(days))
    scores = {}
    for state in states():
        age = np.array([(it - state.served[it].as_of).days for it in days.astype(object)])
        scores[state.policy] = 1 / (1 + np.exp(-(truth * 2 / (1 + age / 20) + noise)))
    return Scored(days, truth, scores)


TRIED = Detection(
    first_day=day(0),
    last_day=day(27),
    false_alarms={"days": FalseAlarms(days=200, judged=200, over=7, requested_by_drift=1, requested_by_performance=2)},
    power=(
        Power(
            kind="unit", column="distance_miles", size=0.1, cost=0.0312, trials=10, by_drift=9, by_performance=4,
            by_either=10,
        ),
    ),
)  # fmt: skip


def found(
    some: tuple[PolicyState[Fit], ...] | None = None, scores: Scored | None = None, *, from_day: date = FIRST,
    to_day: date = LAST,
) -> tuple[PolicyResult, ...]:  # fmt: skip
    return report.results(some or states(), scores or scored(), AUC, first=from_day, last=to_day)


def sentence_of(results: tuple[PolicyResult, ...], chosen: str | None) -> str:
    return report.sentence_of(results, AUC, chosen=chosen, chosen_on="the first days", reported="the last days")


@cache
def made(reason: str = "", **changes: Any) -> Simulation:
    results, choice = found(from_day=UNTIL + timedelta(days=1)), found(to_day=UNTIL)
    chosen = report.choose(choice, AUC)
    given: dict[str, Any] = {
        "model": "parcels", "task": "binary", "metric": "roc_auc", "first_day": FIRST, "last_day": LAST,
        "selection_last_day": UNTIL, "chosen_policy": chosen, "selection_results": choice,
        "rows": len(scored().truth), "features": ("distance_miles",), "parameters": {"num_leaves": 31}, "rounds": 80,
        "is_tuned": False, "rules": {"cool_down_days": 5.0, "floor_days": None}, "policies": results, "seconds": 12.3,
        "sentence": sentence_of(results, chosen),
    }  # fmt: skip
    return page(states(), SimulationSummary(**given | changes), Detection(reason=reason) if reason else TRIED)


def page(some: tuple[PolicyState[Fit], ...], summary: SimulationSummary, detection: Detection = TRIED) -> Simulation:
    weeks = report.weeks(some, scored(), AUC)
    return page_of(
        Simulation(
            summary=summary, weeks=weeks, events=report.events(some), postponed=report.held(some),
            weekly_gains=report.turns(some, weeks, AUC), html="", detection=detection,
        )
    )  # fmt: skip


def test_the_pooled_metric_is_that_of_all_rows_and_inside_its_interval() -> None:
    for it in found():
        assert AUC.function(scored().truth, scored().scores[it.policy]) == pytest.approx(it.metric.value)
        assert it.metric.low < it.metric.value < it.metric.high


def test_rows_of_a_declared_group_are_left_out_together_besides_days() -> None:
    # The noise of a group is the same on every day, so days alone would not show it.
    group = np.arange(len(scored().days)) % 10
    noise = np.random.default_rng(3).normal(size=10)[group]
    alike = {who: it + noise for who, it in scored().scores.items()}
    alone = Scored(scored().days, scored().truth, alike)

    by_day, both = ({it.policy: it.metric for it in found(scores=it)} for it in (alone, replace(alone, units=group)))

    for policy, metric in both.items():
        assert metric.value == by_day[policy].value
        assert metric.high - metric.low > by_day[policy].high - by_day[policy].low


@pytest.mark.parametrize(
    ("group", "count", "expected"),
    [
        (None, 0, "one day at a time, the same days for all policies."),
        ("customer_id", 1, "one day at a time, because all rows have the same customer_id; the same days for all"),
        ("customer_id", 10, "one day at a time and one customer_id group at a time (two-way clustering), the same for"),
    ],
)
def test_the_page_says_what_its_intervals_left_out(group: str | None, count: int, expected: str) -> None:
    shown = " ".join(re.sub("<[^>]+>", "", made(group=group, group_count=count).html).split())

    assert f"from leaving out {expected}" in shown


def test_a_policy_is_chosen_on_its_days_and_reported_on_others() -> None:
    early, late = found(to_day=UNTIL), found(from_day=UNTIL + timedelta(days=1))
    is_late = scored().days > np.datetime64(UNTIL)

    for it in late:
        value = AUC.function(scored().truth[is_late], scored().scores[it.policy][is_late])
        assert value == pytest.approx(it.metric.value)
    assert [it.fits for it in found()] == [one.fits + other.fits for one, other in zip(early, late, strict=True)]
    assert max(early, key=lambda it: it.metric.value).policy == report.choose(early, AUC)
    assert None is report.choose((), AUC)


def test_the_figures_of_the_chosen_policy_come_from_the_reported_days() -> None:
    late = found(from_day=UNTIL + timedelta(days=1))
    [weekly] = [it for it in late if it.policy == "weekly"]
    assert weekly.gain is not None

    assert (
        f"On the first days, which are not reported, weekly was best. It gains {weekly.gain.value:+.4f}"
        in sentence_of(late, "weekly")
    )
    assert sentence_of(late, None).endswith("No policy was chosen: the metric is not defined on the first days.")


def test_gains_are_over_never_and_weekly_gets_all_of_its_own() -> None:
    by_policy = {it.policy: it for it in found()}
    never, weekly = by_policy["never"], by_policy["weekly"]

    assert (None, None) == (never.gain, never.share_of_weekly)
    assert 1 == weekly.share_of_weekly
    assert weekly.gain is not None
    assert weekly.metric.value - never.metric.value == pytest.approx(weekly.gain.value)


def test_equal_policies_gain_the_same_and_nothing_of_each_other() -> None:
    same = Scored(scored().days, scored().truth, dict.fromkeys(scored().scores, scored().scores["weekly"]))

    assert {0.0} == {it.gain.value for it in found(scores=same) if it.gain is not None}
    assert [0.0] == report.turns(states(), report.weeks(states(), same, AUC), AUC)["gain"].unique().to_list()


def test_each_trained_model_is_counted_once_by_its_verdict() -> None:
    by_policy = {it.policy: it for it in found()}
    never, weekly, triggered = by_policy["never"], by_policy["weekly"], by_policy["triggered"]

    assert (0, 0, 0) == (never.fits, never.promotions, never.rejections)
    assert (8, 8, 0, 16.0) == (weekly.fits, weekly.promotions, weekly.rejections, weekly.seconds)
    assert (triggered.fits, 1, 1) == (
        triggered.promotions + triggered.rejections, triggered.rejections, triggered.rollbacks
    )  # fmt: skip


def test_weeks_cover_the_span_without_a_gap_and_every_row_once() -> None:
    weeks = report.weeks(states(), scored(), AUC).filter(policy="weekly")

    assert (FIRST, LAST) == (weeks["first_day"][0], weeks["last_day"][-1])
    assert [it + timedelta(days=1) for it in weeks["last_day"]][:-1] == weeks["first_day"].to_list()[1:]
    assert len(scored().truth) == weeks["rows"].sum()


def test_a_week_with_a_single_class_is_a_gap_and_no_failure() -> None:
    truth = np.where(scored().days <= np.datetime64(day(6)), 0.0, scored().truth)
    weeks = report.weeks(states(), Scored(scored().days, truth, scored().scores), AUC)

    assert {day(0)} == set(weeks.filter(pl.col("value").is_null())["first_day"])
    assert day(0) not in report.turns(states(), weeks, AUC)["first_day"].to_list()


def test_turns_begin_with_the_worst_week_and_describe_its_events() -> None:
    weeks = report.weeks(states(), scored(), AUC)
    turns = report.turns(states(), weeks, AUC).filter(against="weekly")
    then = turns.filter(first_day=day(7)).row(0, named=True)

    assert turns["gain"].to_list() == sorted(turns["gain"].to_list())
    assert f"champion trained as of {day(-1)}, then {day(11)}; with weekly: as of {day(6)}" in then["happened"]
    assert f"{day(11)}: retraining by drift, promoted" in then["happened"]


def test_a_loss_counts_as_a_gain_where_lower_is_better() -> None:
    weeks = pl.DataFrame(
        [("weekly", day(0), day(6), 9, 0.5, 1, 1), ("triggered", day(0), day(6), 9, 0.4, 0, 0)],
        schema=report.WEEKS, orient="row",
    )  # fmt: skip

    (gain,) = report.turns(states(), weeks, find_metric("rmse", "regression"))["gain"]

    assert gain == pytest.approx(0.1)


def test_the_page_has_the_structure_that_is_written_down() -> None:
    html = made().html
    outline = [re.sub(r"<[^>]+>", "", it) for it in re.findall(r"<(?:h[123]|th)\b.*?</(?:h[123]|th)>", html, re.DOTALL)]

    assert GOLDEN.read_text(encoding="utf-8") == "\n".join(outline) + "\n"


def test_the_page_needs_neither_network_nor_script_and_closes_its_elements() -> None:
    html = made(model=EVIL, injections=(EVIL,)).html
    read = Page(html)

    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(read.tags)
    assert all(link.startswith("#") for link in read.references)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import", html)
    assert {"policies", "weeks", "turns", "retrainings", "held", "rules", "how"} <= set(read.ids)
    assert EVIL in read.text


def test_the_page_lists_each_retraining_with_cause_verdict_and_reasons() -> None:
    html = made().html

    for part in ("2 of the last 3 judged days", "promoted", "rejected", "rolled back", "because", f"{day(11)}"):
        assert part in html


def test_the_page_has_a_table_of_false_alarms_and_one_of_power() -> None:
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in made().html.split("<tr>")]

    assert ["whole days drawn", "200", "200", "7", "1", "2"] in rows
    assert ["unit", "distance_miles", "0.1", "0.0312", "10", "9", "4", "10"] in rows


@pytest.mark.usefixtures("unrendered")
def test_if_the_rules_were_not_tested_the_page_gives_the_reason_and_no_table() -> None:
    html = made("Not measured: 3 days are too few.").html

    assert "<p>Not measured: 3 days are too few.</p>" in html
    assert "False alarms" not in html


@pytest.mark.parametrize("policies", [("never",), ("weekly",), ("triggered",), ("never", "triggered")])
@pytest.mark.usefixtures("unrendered")
def test_a_page_can_be_rendered_for_any_policies(policies: tuple[str, ...]) -> None:
    some = [state for state in states() if state.policy in policies]
    results = found(tuple(some))
    whole = made()
    sentence = sentence_of(results, policies[0])
    changes = {
        "policies": results, "selection_results": results, "chosen_policy": policies[0], "sentence": sentence,
    }  # fmt: skip
    html = page(tuple(some), whole.summary.model_copy(update=changes)).html

    assert all(policy in html for policy in policies)
    assert policies == tuple(it.policy for it in results)

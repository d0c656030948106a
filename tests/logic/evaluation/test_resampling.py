"""Tests of the units that are left out in turn: groups and rows instead of days, in intervals and in the gate."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary
from ml_assets.contracts.artifacts.training import HashSplit
from ml_assets.logic.evaluation.jackknife import MAXIMUM_CLUSTERS, Clusters
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.evaluation.report import Learned, Opponent
from ml_assets.logic.promotion.gate import GateLimits, judge
from tests.logic.gate import auc, compared, report
from tests.logic.parcels import FIRST_DAY, evaluation, parcels, scores, summary

BY_CUSTOMER = HashSplit(by="group", columns=("customer",), validation_share=0.2, test_share=0.2)
RANDOM = HashSplit(by="random", columns=("parcel",), validation_share=0.2, test_share=0.2)
MAE = METRICS["mae"]


def grouped(rows: int = 600, groups: int = 24) -> pl.DataFrame:
    """Parcels of customers of different sizes, in no order."""
    sizes = np.random.default_rng(5).dirichlet(np.full(groups, 3.0))
    customer = np.random.default_rng(6).choice([f"c{it}" for it in range(groups)], rows, p=sizes)
    return parcels(rows, seed=2).with_columns(customer=pl.Series(customer))


def on(split: HashSplit | None, test: pl.DataFrame, **changes: Any) -> EvaluationSummary:
    own = summary().model_copy(update={"split": split})
    known = {"rows": test, "scores": scores(test), "champion": Opponent("old", scores(test, skill=0.6)), "slices": []}
    return evaluation(summary=own, **known | changes).summary


def test_interval_and_paired_test_leave_out_one_group_at_a_time() -> None:
    test = grouped()
    truth, customer = test["target"].to_numpy(), test["customer"].to_numpy()
    ours, theirs = scores(test)["score"].to_numpy(), scores(test, skill=0.6)["score"].to_numpy()
    names = np.unique(customer)

    found = on(BY_CUSTOMER, test)

    def error(figure: Any) -> tuple[float, float]:
        whole = figure(np.full(len(truth), fill_value=True))
        without = np.array([figure(customer != name) for name in names])
        return whole, float(np.sqrt((len(names) - 1) / len(names) * ((without - whole) ** 2).sum()))

    reach = stats.t.ppf(0.975, len(names) - 1)
    value, own = error(lambda it: auc(truth[it], ours[it]))
    difference, paired = error(lambda it: auc(truth[it], ours[it]) - auc(truth[it], theirs[it]))
    interval, versus = found.metrics["roc_auc"], found.against_champion
    assert versus is not None
    assert pytest.approx([value, value + reach * own]) == [interval.value, interval.high]
    assert pytest.approx([difference, paired]) == [versus.difference.value, versus.standard_error]
    assert pytest.approx(difference - reach * paired) == versus.difference.low
    assert (len(names), "customer groups", len(names) - 1, 0.0) == (
        versus.clusters, versus.unit, versus.degrees_of_freedom, versus.correlation
    )  # fmt: skip


def test_rows_that_are_split_at_random_are_left_out_in_forty_folds() -> None:
    versus = on(RANDOM, grouped()).against_champion

    assert versus is not None
    assert (40, "folds of rows", 39) == (versus.clusters, versus.unit, versus.degrees_of_freedom)


def test_many_groups_are_pooled_whole_into_blocks() -> None:
    groups = np.random.default_rng(1).integers(0, 1_000, 5_000)
    found = Clusters.of_groups(groups, column="customer")

    blocks = pl.DataFrame({"group": groups, "block": found.index}).unique()
    assert (MAXIMUM_CLUSTERS, "blocks of customer groups", False) == (found.count, found.unit, found.is_in_order)
    assert blocks.height == blocks["group"].n_unique()
    assert {4, 5} == {*blocks.group_by("block").len()["len"]}


def noise(seed: int, *, groups: int = 20, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The differences of two equally good models, which are alike within each group, and the groups of the rows."""
    draw = np.random.default_rng(seed)
    customer = np.repeat(np.arange(groups), draw.integers(2, 30, groups))
    return spread * draw.normal(size=groups)[customer] + draw.normal(size=len(customer)), customer


def promoted(clusters: Clusters, lead: np.ndarray) -> bool:
    """Return whether the gate promotes a model whose errors are smaller by `lead` than those of a baseline."""
    truth = np.zeros(len(lead))
    against = compared(MAE, truth, np.full(len(lead), 10.0), 10.0 + lead, clusters)
    return judge(
        report(baselines=(against.model_copy(update={"against": "constant"}),), metric="mae", task="regression"),
        GateLimits(),
    ).promote


@pytest.mark.parametrize("groups", [8, 20])
def test_noise_is_promoted_no_more_often_than_stated_if_rows_of_a_group_are_alike(groups: int) -> None:
    runs = 600
    found = [noise(seed, groups=groups) for seed in range(runs)]

    by_group = sum(promoted(Clusters.of_groups(customer, column="customer"), lead) for lead, customer in found)
    by_row = sum(promoted(Clusters.of_rows(len(lead), seed=0), lead) for lead, _ in found)

    assert by_group <= stats.binom.ppf(0.999, runs, 0.025)
    assert by_row > 5 * 0.025 * runs  # rows of a group are not independent, so this is what the groups prevent


def test_with_four_groups_the_gate_cannot_decide() -> None:
    lead, customer = noise(1, groups=4)

    against = compared(MAE, np.zeros(len(lead)), np.full(len(lead), 10.0), 10.0 + lead,
                       Clusters.of_groups(customer, column="customer"))  # fmt: skip
    [reason] = judge(report(baselines=(against,), metric="mae", task="regression"), GateLimits()).reasons

    assert (
        "Cannot be compared with the baseline 'champion': cannot decide with 4 customer groups; at least 5 are needed. "
        "Use a larger test_share, or more rows."
    ) == reason


def test_the_gate_names_the_unit_and_does_not_refer_to_days() -> None:
    found = on(BY_CUSTOMER, grouped(), champion=None)
    rules = {rule.name: rule.sentence for rule in judge(found, GateLimits(min_rows=50)).rules}

    assert "Measured on 600 rows, resampled by customer, at least the 50 required." == rules["rows"]
    assert "None of these rows was used to train or tune the challenger." == rules["unseen"]


def learned(seen: np.ndarray, split: HashSplit | None = RANDOM) -> Learned:
    return Learned(seen, FIRST_DAY + dt.timedelta(days=30), split)


def test_rows_that_the_champion_has_learned_from_are_left_out_of_the_comparison() -> None:
    test = grouped(120)
    seen = np.arange(120) < 8
    champion = Opponent("old", scores(test, skill=0.6), learned=learned(seen))
    challenger = learned(np.zeros(120, dtype=bool))

    found = on(RANDOM, test, champion=champion, learned=challenger)

    versus = found.against_champion
    assert versus is not None
    assert (112, 8, 0) == (versus.rows, found.excluded_rows, found.seen_rows)
    assert pytest.approx(auc(test["target"][8:], scores(test, skill=0.6)["score"][8:])) == versus.other


@pytest.mark.parametrize("other", [None, BY_CUSTOMER, RANDOM.model_copy(update={"test_share": 0.1})])
def test_a_champion_of_another_split_is_not_compared_on_rows_that_it_has_learned_from(other: HashSplit | None) -> None:
    test = grouped(120)
    seen = np.arange(120) < 100
    champion = Opponent("old", scores(test), learned=learned(seen, other))

    found = on(RANDOM, test, champion=champion, learned=learned(np.zeros(120, dtype=bool)))
    verdict = judge(found, GateLimits())

    was = "by time" if other is None else other.words
    assert (None, 100, 120, 0) == (found.against_champion, found.champion_seen_rows, found.rows, found.excluded_rows)
    [reason] = verdict.reasons
    assert (
        f"A person must decide about champion old, which is not comparable: its training set was split {was}, that of "
        f"the challenger {RANDOM.words}; it was trained or tuned on 100 of the 120 test rows."
    ) == reason
    assert (True, True, True) == (verdict.promote, verdict.waits, verdict.is_anchor)


def test_a_champion_of_another_split_is_compared_on_enough_new_rows() -> None:
    test = grouped(600)
    seen = np.arange(600) < 100
    champion = Opponent("old", scores(test, skill=0.6), learned=learned(seen, None))

    found = on(RANDOM, test, champion=champion, learned=learned(np.zeros(600, dtype=bool)))

    assert found.against_champion is not None
    assert (500, 100) == (found.against_champion.rows, found.excluded_rows)


def test_an_anchor_of_another_split_requires_a_challenger_that_is_better_than_the_champion() -> None:
    test = grouped(120)
    none, most = np.zeros(120, dtype=bool), np.arange(120) < 100
    found = on(
        RANDOM, test, learned=learned(none), champion=Opponent("old", scores(test, skill=0.6), learned=learned(none)),
        anchor=Opponent("first", scores(test), learned=learned(most, None)),
    )  # fmt: skip

    rules = {rule.name: rule.sentence for rule in judge(found, GateLimits()).rules}
    assert rules["anchor"].startswith("Anchor first cannot score these rows, so the challenger must be better than")
    assert "not comparable: its training set was split by time" in rules["anchor"]

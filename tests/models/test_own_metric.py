"""A metric that is a person's function: measured, shown, deciding, and part of the code version."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ml_assets.contracts.dotted_name import find_function
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.evaluation.metrics import expected_metric, find_metric
from ml_assets.logic.pages.card_rows import metric_rows
from ml_assets.logic.training.booster import predict
from ml_assets.models.evaluation import Versioned, measure_challenger
from ml_assets.models.plan import ModelPlan
from ml_assets.provenance import code, modules, syntax
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.tuning import tuning
from tests.stages.shop import Trained, plan_of

SOURCE = '''
import numpy as np

MISSED, SENT_BACK = 10.0, 1.0
"""What an unnoticed return costs, and what a needless check costs."""

def total(labels, flagged):
    return MISSED * (labels & ~flagged) + SENT_BACK * (~labels & flagged)

def cost(labels, scores):
    return float(np.mean(total(labels.astype(bool), scores >= 0.2)))

def weighted(labels, scores, weights):
    return float(np.average(total(labels.astype(bool), scores >= 0.2), weights=weights))

def empty(labels, scores):
    return float("nan")

def one(labels):
    return 1.0

def broken(labels, scores):
    return labels["x"]

def imaginary(labels, scores):
    return np.complex128(1)

def text(labels, scores):
    return "1"

def cost_in_place(labels, scores):
    found = cost(labels, scores)
    labels[:] = 0
    scores[:] = 0.5
    return found

def huge(labels, scores):
    return 10**400

number = 3
'''
COST = "shop_metrics.cost (lower is better)"


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the project."""
    path = tmp_path / "shop_metrics.py"
    path.write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield path
    forget()


def forget() -> None:
    """Forget the module and its parsed code, as another process would not know them."""
    sys.modules.pop("shop_metrics", None)
    for cached in (find_function, modules.path_of, modules.module_of, modules.is_ours, modules.resolve,
                   syntax.definition, code._version):  # fmt: skip
        cached.cache_clear()


def with_metrics(*functions: str, **evaluation: object) -> ModelPlan:
    own = [{"function": f"shop_metrics.{name}", "direction": "lower"} for name in functions]
    return plan_of(evaluation={"own_metrics": own, "baselines": [["shop"]], **evaluation})


def cost_of(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the same cost, computed row by row."""
    both = zip(truth, scores, strict=True)
    costs = [10.0 * (is_it and score < 0.2) + (not is_it and score >= 0.2) for is_it, score in both]
    return sum(costs) / len(costs)


def test_it_is_measured_with_an_interval_and_shown_on_the_card(trained: Trained) -> None:
    plan = with_metrics("cost")
    found = measure_challenger(
        plan, trained.training_set, Versioned("a", trained.model), champion=None, anchor=None
    ).summary
    rows = trained.training_set.part("test")
    scores = predict(trained.model, rows)["score"].to_numpy()

    assert cost_of(rows["is_returned"].to_numpy(), scores) == pytest.approx(found.metrics[COST].value)
    assert found.metrics[COST].low < found.metrics[COST].value < found.metrics[COST].high
    assert ("cost", "↓") in [(it.title, it.direction) for it in metric_rows(found)]
    assert found.metric == "roc_auc"


def test_a_function_that_changes_its_arrays_in_place_changes_no_other_figure(trained: Trained) -> None:
    plan, newest = with_metrics("cost_in_place", "cost"), Versioned("a", trained.model)
    found = measure_challenger(plan, trained.training_set, newest, champion=None, anchor=None).summary.metrics

    assert found[COST] == found["shop_metrics.cost_in_place (lower is better)"]
    without = measure_challenger(plan_of(), trained.training_set, newest, champion=None, anchor=None).summary.metrics
    assert without == {name: found[name] for name in without}


def test_its_interval_is_the_jackknifes_over_days(trained: Trained) -> None:
    found = measure_challenger(
        with_metrics("cost"), trained.training_set, Versioned("a", trained.model), champion=None, anchor=None
    ).summary.metrics[COST]
    rows = trained.training_set.part("test")
    scores, truth, days = predict(trained.model, rows)["score"].to_numpy(), rows["is_returned"].to_numpy(), rows["day"]
    without = np.array([cost_of(truth[days != day], scores[days != day]) for day in days.unique().sort()])
    count = len(without)
    plain = np.sqrt((count - 1) / count * ((without - found.value) ** 2).sum())

    # the error is never below the plain one, because neighbouring days may be correlated; Student's t, 9 degrees
    assert 2.262 * plain <= (found.high - found.low) / 2 * 1.001
    assert (found.high - found.low) / 2 < 2.262 * plain * 2.2


def test_it_can_decide(trained: Trained) -> None:
    plan = with_metrics("cost", metric="shop_metrics.cost")
    other = trained.model
    found = measure_challenger(
        plan, trained.training_set, Versioned("a", trained.model), champion=Versioned("b", other), anchor=None
    ).summary

    assert plan.declaration.metric == found.metric == found.against_champion.metric == COST
    assert 0.0 == found.against_champion.difference.value
    [constant, *_] = found.against_baselines
    assert constant.challenger < constant.other
    assert 0 < constant.difference.value == pytest.approx(constant.other - constant.challenger)


def test_weights_reach_a_function_with_three_arguments() -> None:
    truth, scores = np.array([1, 0, 1]), np.array([0.1, 0.9, 0.9])
    weights = np.array([1.0, 2.0, 1.0])

    found = find_metric("shop_metrics.weighted (lower is better)", "binary").function(truth, scores, weights)

    assert (10 * 1 + 1 * 2 + 0) / 4 == found
    assert 11 / 3 == pytest.approx(find_metric(COST, "binary").function(truth, scores))
    with pytest.raises(DataError, match=r"takes labels and scores, but the rows have weights. Add a third argument"):
        find_metric(COST, "binary").function(truth, scores, weights)


def test_nothing_is_expected_of_it_before_labels_arrive() -> None:
    assert expected_metric(find_metric(COST, "binary"), np.array([0.2, 0.9])) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop_metrics.empty", "metric 'shop_metrics.empty' returned nan; expected a finite number"),
        ("shop_metrics.huge", "metric 'shop_metrics.huge' returned 10000.*; expected a finite number"),
        ("shop_metrics.imaginary", r"metric 'shop_metrics.imaginary' returned .*; expected a finite number"),
        ("shop_metrics.text", "metric 'shop_metrics.text' returned '1'; expected a finite number"),
        ("shop_metrics.broken", r"metric 'shop_metrics.broken' failed: IndexError: .*shop_metrics.py, line 23\)"),
    ],
)
def test_a_wrong_result_is_reported(trained: Trained, name: str, expected: str) -> None:
    plan = with_metrics(name.partition(".")[2])

    with pytest.raises(DataError, match=expected):
        measure_challenger(plan, trained.training_set, Versioned("a", trained.model), champion=None, anchor=None)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("nowhere.cost", "nowhere.cost: there is no module 'nowhere'. Expected nowhere.py beside the project's"),
        (
            "shop_metrics.costs",
            r"shop_metrics.costs: module shop_metrics has no 'costs' \(did you mean 'cost'\?\); it has",
        ),
        ("tests.models", "tests.models is a module; expected a function or class in it"),
        ("shop_metrics.number", "shop_metrics.number is int; expected a function"),
        (
            "shop_metrics.one",
            r"shop_metrics.one takes \(labels\); expected \(labels, scores\) or \(labels, scores, weig",
        ),
    ],
)
def test_a_function_that_cannot_be_called_is_reported_when_the_project_loads(function: str, expected: str) -> None:
    with pytest.raises(ContractError, match=f"evaluation.own_metrics: {expected}"):
        plan_of(evaluation={"own_metrics": [{"function": function, "direction": "higher"}]})


@pytest.mark.parametrize(
    ("line", "expected"), [("1 / 0", "ZeroDivisionError: division by zero"), ("raise SystemExit(0)", "SystemExit: 0")]
)
def test_a_module_that_fails_is_reported_with_its_line(source: Path, line: str, expected: str) -> None:
    source.write_text(f"import math\n{line}\n", encoding="utf-8")

    with pytest.raises(ContractError, match=rf"importing shop_metrics failed: {expected} .*shop_metrics.py, line 2"):
        with_metrics("cost")


def test_a_changed_function_or_helper_changes_the_code_version_of_the_stages_that_call_it(source: Path) -> None:
    def versions(*functions: str) -> tuple[str, str]:
        plan = with_metrics(*functions)
        of_evaluation, of_tuning = ([*stage(plan).code_versions_by_key.values()] for stage in (evaluation, tuning))
        return of_evaluation[0], of_tuning[0]

    without, before = versions(), versions("cost")
    source.write_text(SOURCE.replace("MISSED * (", "2 * MISSED * ("), encoding="utf-8")
    forget()
    helper = versions("cost")
    source.write_text(SOURCE.replace("np.mean(total", "np.sum(total") + "# a comment\n", encoding="utf-8")
    forget()
    function = versions("cost")
    source.write_text(f"# a comment\n{SOURCE}", encoding="utf-8")
    forget()

    assert 4 == len({without[0], before[0], helper[0], function[0]})
    assert 1 == len({without[1], before[1], helper[1], function[1]})  # the study optimizes another metric
    assert before == versions("cost")


def test_a_declaration_without_one_is_hashed_as_before() -> None:
    assert "own_metrics" not in plan_of().declaration.evaluation.model_dump()

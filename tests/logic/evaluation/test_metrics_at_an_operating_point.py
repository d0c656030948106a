import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.formulas import acted_on
from ml_assets.logic.evaluation.metrics import operating_metrics
from tests.logic.parcels import evaluation, parcels, scores

TOP_HALF = OperatingPoint(top_share=0.5)


def measured(
    point: OperatingPoint, truth: list[int], given: list[float], groups: list[int] | None = None
) -> list[float]:
    return [it.function(truth, given, groups=groups) for it in operating_metrics(point)]


def test_precision_recall_and_lift_are_those_of_the_rows_with_the_highest_scores() -> None:
    truth, given = [1, 0, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.7, 0.2, 0.1]

    # Of 0.9, 0.8 and 0.7 one is positive; there are two positives in six rows.
    assert pytest.approx([1 / 3, 1 / 2, 1.0]) == measured(TOP_HALF, truth, given)


def test_a_share_within_groups_applies_to_each_group() -> None:
    truth, given, days = [1, 0, 0, 1], [0.9, 0.8, 0.2, 0.1], [1, 1, 2, 2]
    each = OperatingPoint(top_share=0.5, within="day")

    assert pytest.approx([1 / 2, 1 / 2, 1.0]) == measured(each, truth, given, days)
    assert [1, 0, 1, 0] == acted_on(each, given, days).tolist()
    assert [1, 1, 0, 0] == acted_on(TOP_HALF, given, None).tolist()


def test_a_threshold_takes_every_row_from_it_on() -> None:
    assert pytest.approx([2 / 3, 1.0, 4 / 3]) == measured(
        OperatingPoint(threshold=0.5), [1, 0, 1, 0], [0.9, 0.5, 0.6, 0.49]
    )
    with pytest.raises(DataError, match="'precision' is not defined"):
        measured(OperatingPoint(threshold=0.99), [1, 0], [0.9, 0.5])


def test_ties_at_the_cut_count_partly_in_any_order() -> None:
    given = [0.9, 0.5, 0.5, 0.5, 0.1, 0.1]

    assert pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0, 0]) == acted_on(TOP_HALF, given, None)
    # A constant score has the precision of chance, and a lift of 1.
    assert pytest.approx([1 / 4, 1 / 2, 1.0]) == measured(TOP_HALF, [1, 0, 0, 0], [0.3] * 4)


@pytest.mark.parametrize(("rows", "share", "wanted"), [(10, 0.1, 1), (14, 0.1, 1), (15, 0.1, 2), (3, 0.1, 1)])
def test_a_share_of_few_rows_is_rounded_and_at_least_one(rows: int, share: float, wanted: int) -> None:
    assert wanted == acted_on(OperatingPoint(top_share=share), np.arange(rows), None).sum()


def test_the_evaluation_measures_the_model_and_its_baselines_there() -> None:
    rows, point = parcels(1_500, seed=2), OperatingPoint(top_share=0.1, within="day")
    found = evaluation(rows=rows, scores=scores(rows), metric="roc_auc within day", operating_point=point).summary

    late, of = rows["target"].sum(), rows.height
    # 75 rows a day, of which 7.5 round up to 8.
    assert 8 * 20 == round(sum(acted_on(point, scores(rows)["score"], rows["day"])))
    top = rows.with_columns(scores(rows)).filter(pl.col("score").rank(descending=True).over("day") <= 8)
    hits = top["target"].sum()
    expected = {"precision": hits / top.height, "recall": hits / late, "lift": hits / top.height / (late / of)}
    for name, value in expected.items():
        interval = found.metrics[name]
        assert pytest.approx(value) == interval.value
        assert interval.low < value < interval.high
    # 150 of all 1,500 rows: from the 150th highest score on.
    cut = scores(rows)["score"].sort(descending=True)[149]
    assert OperatingPoint(top_share=0.1, within="day", cut=cut) == found.operating_point
    assert pytest.approx(1.0) == found.baselines[0].metrics["lift"]
    assert "the 10 % of each day with the highest scores" == point.words

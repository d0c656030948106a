"""The summary of a run: drift and performance if days could not be judged."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.cli.flow.summary import _meaning, drift_of, missing_days_of, monitored, sources_lines
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DriftSummaries, DriftSummary
from ml_assets.contracts.periods import Calendar
from ml_assets.lake.store import Lake
from tests.builders import Note, put

FIRST = date(2024, 1, 1)
DAYS = [str(FIRST + timedelta(days=number)) for number in range(62)]


def drift(day: str, *, rows: int = 24, excess: float | None = None) -> DailyDrift:
    at = date.fromisoformat(day)
    summary = DriftSummary(
        model="demand", model_version="v", day=at, first_day=at, rows=rows, weighted_excess_psi=excess,
        score_excess_psi=excess, is_over=excess is not None and excess > 0.1, drifted_features=(),
        sentence=f"drift of {day}.",
    )  # fmt: skip
    return DailyDrift(pl.DataFrame(), DriftSummaries(day=at, versions=(summary,)))


@pytest.mark.parametrize(
    ("reports", "verdict"),
    [
        ([drift(day) for day in DAYS], "not judged on 62 of 62 days"),
        ([], "not judged on 62 of 62 days"),
        (
            [drift(DAYS[0], excess=0.5), *(drift(day, excess=0.0) for day in DAYS[1:31])],
            "over the limits on 1 of 62 days; not judged on 31 of 62 days; within the limits on 30 of 62 days",
        ),
    ],
    ids=["24 rows a day", "no report", "half of the days"],
)
def test_a_day_that_was_not_judged_is_counted_as_neither_over_nor_within(
    reports: list[DailyDrift], verdict: str
) -> None:
    found = drift_of({str(it.summaries.day): it for it in reports}, DAYS)

    assert verdict == found["verdict"]
    assert 62 == found["over"] + found["within"] + found["not_judged"]
    lines = [*monitored(summary(found))]
    assert f"  drift        {verdict}" == lines[2].partition("; the first ")[0]
    assert "  performance  rmse measured on 0 of 62 days, 0 labels" == lines[1]


@pytest.mark.parametrize(
    ("rows", "labelled", "learned_from", "expected"),
    [
        (9, 5, 0, ["9 for 2024-01-01 to 2024-03-02, 5 with a label by now", "rmse measured on 0 of 62 days, 0 labels"]),
        (9, 5, 3, [("9 for 2024-01-01 to 2024-03-02, 5 with a label by now; 3 of the 9 are rows that the model has "
                    "learned from"), "rmse measured on 0 of 62 days, 0 labels"]),
        (9, 0, 9, ["9 for 2024-01-01 to 2024-03-02, all of rows that the model has learned from",
                   "not measured: it needs rows that the model has not seen"]),
    ],
)  # fmt: skip
def test_performance_needs_rows_that_the_model_has_not_seen(
    rows: int, labelled: int, learned_from: int, expected: list[str]
) -> None:
    lines = [*monitored(summary(drift_of({}, DAYS), rows=rows, labelled=labelled, learned_from=learned_from))]

    assert expected == [line[15:] for line in lines[:2]]


def summary(found: dict[str, Any], **predicted: int) -> dict[str, Any]:
    rows = {"rows": 0, "labelled": 0, "learned_from": 0, **predicted}
    return {
        "champion": "v", "drift": found, "grain": "day",
        "predicted": {"first": DAYS[0], "last": DAYS[-1], **rows},
        "performance": {"metric": "rmse", "days": 62, "days_measured": 0, "labelled": 0, "last": None},
    }  # fmt: skip


def test_the_summary_says_how_many_test_rows_are_of_known_groups() -> None:
    known = "93.0% of the test rows have a shop that was seen in training (12 of 15 groups)"
    decides = {"metric": "rmse", "groups": None}

    lines = [*_meaning({"decides": decides, "operating_point": None, "known_groups": known})]

    assert ["rmse decides", known] == [line.strip() for line in lines]


def test_the_summary_lists_the_missing_days_of_materialized_assets(tmp_path: Path) -> None:
    lake, days = Lake(str(tmp_path)), ["2013-01-04", "2013-01-05", "2013-01-06"]
    put(lake, Note(text="frozen"), asset="m/training_set", missing_days={"m/labels": ("2013-01-02",)})
    for day, missing in zip(days, (("2013-01-02", "2013-01-03"), ("2013-01-03",), ()), strict=True):
        marks = {"raw/a": missing} if missing else {}
        put(lake, Note(text=day), asset="m/predictions", partition=day, missing_days=marks)

    expected = {"training set": "m/labels of 2013-01-02", "predictions": "raw/a of 2013-01-02 to 2013-01-03"}
    assert expected == missing_days_of(lake, "m", days)
    assert "predictions" not in missing_days_of(lake, "m", days[2:])


def test_the_summary_lists_days_of_a_source_without_rows() -> None:
    empty = {"raw/orders": ["2024-01-02", "2024-01-05", "2024-01-06"]}
    sources = {"rows": [], "excluded_rows": {}, "empty_days": empty}

    assert ["raw/orders has no rows on 3 days: 2024-01-02, 2024-01-05 to 2024-01-06"] == [
        line.strip() for line in sources_lines({"labels_without_features": 0, "sources": sources, "grain": "day"})
    ]


def test_the_summary_counts_months_of_a_model_by_month() -> None:
    months = ["2024-01-01", "2024-02-01", "2024-03-01"]
    sources = {"rows": [], "excluded_rows": {}, "empty_days": {"raw/orders": months}}

    assert "not judged on 3 of 3 months" == drift_of({}, months, Calendar("month"))["verdict"]
    assert ["raw/orders has no rows on 3 months: 2024-01-01 to 2024-03-01"] == [
        line.strip() for line in sources_lines({"labels_without_features": 0, "sources": sources, "grain": "month"})
    ]

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.monitoring import Drift
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.periods import Calendar
from ml_assets.logic.monitoring.distances import MANY
from ml_assets.logic.monitoring.drift import TABLE_SCHEMA, Watched, measure_day, measure_drift
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Pooled
from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.monitoring.sketch import sketch_reference
from tests.logic.monitoring.test_distances import textbook
from tests.logic.monitoring.test_reference import column, feature
from tests.logic.simulated import LIMITS

DAY = date(2013, 11, 5)

numbers = st.lists(st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float), min_size=1, max_size=60)
maybe_numbers = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=60)
words = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60)


def measure(
    reference: pl.DataFrame, day: pl.DataFrame | pl.LazyFrame, *, limits: DriftLimits = LIMITS, **weights: float
) -> Drift:
    """Measure one frame against another; text is categorical, and a column `score` is the score."""
    features = [
        feature(name, is_categorical=dtype in (pl.String, pl.Categorical))
        for name, dtype in reference.schema.items()
        if name != "score"
    ]
    score = reference["score"] if "score" in reference.columns else None
    sketch = sketch_reference(reference.drop("score", strict=False), features=features, score=score)
    return against(sketch, day, limits=limits, **weights)


def against(
    reference: pl.DataFrame | Reference, day: pl.DataFrame | pl.LazyFrame, *, limits: DriftLimits = LIMITS,
    **weights: float,
) -> Drift:  # fmt: skip
    known = reference if isinstance(reference, Reference) else Reference.of(reference, model="late")
    return measure_drift(day, Watched("late", "v1", known, weights), Pooled(str(DAY), str(DAY)), limits)


def row(drift: Drift, name: str) -> dict[str, object]:
    return drift.table.row(by_predicate=pl.col("feature") == name, named=True)


def normal(rows: int, seed: int, mean: float = 0.0) -> pl.DataFrame:
    return column(np.random.default_rng(seed).normal(mean, 1, rows))


def exact_distances(reference: list[float], day: list[float]) -> tuple[float, float]:
    """Kolmogorov-Smirnov and the area between two empirical distribution functions, by their definitions."""
    known, seen = np.sort(reference), np.sort(day)
    at = np.union1d(known, seen)
    gap = np.searchsorted(known, at, side="right") / len(known) - np.searchsorted(seen, at, side="right") / len(seen)
    return float(np.abs(gap).max()), float((np.abs(gap[:-1]) * np.diff(at)).sum())


@given(maybe_numbers)
def test_numbers_against_themselves_have_no_drift(values: list[float | None]) -> None:
    measured = row(measure(column(values), column(values)), "x")

    assert measured["psi"] == 0
    assert measured["ks"] in (0, None)
    assert measured["normed_wasserstein"] in (0, None)
    assert measured["null_share"] == measured["null_share_reference"]
    assert measured["is_over"] is False


@given(words)
def test_categories_against_themselves_have_no_drift(values: list[str | None]) -> None:
    frame = pl.DataFrame({"x": values}, schema={"x": pl.String})
    measured = row(measure(frame, frame), "x")

    assert (measured["psi"], measured["new_category_share"]) == (0, 0)
    assert measured["null_share"] == measured["null_share_reference"]


@given(numbers, numbers, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(reference: list[float], day: list[float], random: object) -> None:
    shuffled = [list(reference), list(day)]
    for values in shuffled:
        random.shuffle(values)  # type: ignore[attr-defined]

    assert (
        measure(column(reference), column(day)).table.to_dicts()
        == measure(*(column(values) for values in shuffled)).table.to_dicts()
    )


@given(numbers, numbers)
def test_kolmogorov_smirnov_is_exact_where_every_value_has_its_cell(reference: list[float], day: list[float]) -> None:
    # 60 values have 200 cells; only the open ranges between neighbouring values hide where in them a day's rows lie.
    day = [min(reference, key=lambda known: abs(known - value)) for value in day]
    ks, _ = exact_distances(reference, day)

    assert row(measure(column(reference), column(day)), "x")["ks"] == pytest.approx(ks, abs=1e-12)


@given(numbers, numbers)
def test_kolmogorov_smirnov_and_wasserstein_never_exceed_the_exact_ones(
    reference: list[float], day: list[float]
) -> None:
    ks, area = exact_distances(reference, day)
    measured = row(measure(column(reference), column(day)), "x")
    spread = float(np.std(reference))

    assert measured["ks"] <= ks + 1e-12  # type: ignore[operator]
    if measured["normed_wasserstein"] is not None:
        assert measured["normed_wasserstein"] * spread <= area * (1 + 1e-9) + 1e-9 * (1 + np.abs(reference).max())  # type: ignore[operator]


@given(st.floats(0.01, 100), st.floats(-1000, 1000))
@settings(max_examples=30)
def test_a_shift_of_all_rows_is_its_size_in_standard_deviations(spread: float, shift: float) -> None:
    values = normal(2_000, seed=1)["x"].to_numpy() * spread
    measured = row(measure(column(values), column(values + shift)), "x")

    assert measured["normed_wasserstein"] == pytest.approx(abs(shift) / values.std(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("rows", [3_000, 3 * MANY])
def test_a_large_sample_has_its_exact_distances(rows: int) -> None:
    reference, day = normal(20_000, seed=1), normal(rows, seed=2, mean=0.4)
    ks, area = exact_distances(reference["x"].to_list(), day["x"].to_list())
    measured = row(measure(reference, day), "x")

    assert measured["ks"] == pytest.approx(ks, abs=1 / 200)
    assert measured["normed_wasserstein"] == pytest.approx(area / float(reference["x"].std(ddof=0)), abs=1e-4)


def deciles(values: list[float]) -> list[float]:
    """The smallest value with at least a tenth, two tenths, ... of the values at or under it."""
    ordered = sorted(values)
    return [ordered[-(-len(ordered) * tenth // 10) - 1] for tenth in range(1, 10)]


def counted(values: list[float], reference: list[float]) -> list[int]:
    """Rows under the reference's range, in each tenth of it, and over its range."""
    inner, counts = deciles(reference), [0] * 12
    for value in values:
        tenth = 1 + sum(value > edge for edge in inner)
        counts[0 if value < min(reference) else 11 if value > max(reference) else tenth] += 1
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_psi_is_that_of_the_textbook_on_the_tenths_of_the_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    reference, day = random.normal(0, 1, 2_000).tolist(), random.normal(0.3, 1.2, 400).tolist()
    expected = textbook(counted(reference, reference), counted(day, reference))

    measured = row(measure(column(reference), column(day)), "x")

    assert measured["psi"] == pytest.approx(expected, rel=1e-9)
    # Without reference days only the PSI of sampling is subtracted.
    assert measured["excess_psi"] == pytest.approx(expected - 9 * (1 / 2_000 + 1 / 400), rel=1e-9)


def test_excess_psi_is_psi_less_sampling_less_the_most_that_99_of_100_days_of_training_show() -> None:
    random = np.random.default_rng(5)
    by_day = [random.normal(random.normal(0, 0.5), 1, 100).tolist() for _ in range(30)]
    whole, day = [value for values in by_day for value in values], random.normal(1.5, 1, 100).tolist()
    sampling = 9 * (1 / 3_000 + 1 / 100)
    reference = counted(whole, whole)
    beyond = sorted(max(textbook(reference, counted(values, whole)) - sampling, 0.0) for values in by_day)
    usual = beyond[28] + 0.71 * (beyond[29] - beyond[28])  # the 99th percentile lies at 0.99 * 29 = 28.71
    days = pl.Series([number for number in range(30) for _ in range(100)])

    sketch = sketch_reference(column(whole), features=[feature("x")], score=None, days=days)
    drift = against(sketch, column(day))

    excess = textbook(reference, counted(day, whole)) - sampling - usual
    assert row(drift, "x")["excess_psi"] == pytest.approx(excess, rel=1e-9)


def test_psi_of_categories_counts_missing_and_new_ones_as_bins() -> None:
    reference = pl.DataFrame({"x": ["a"] * 60 + ["b"] * 30 + [None] * 10})
    day = pl.DataFrame({"x": ["a"] * 20 + ["b"] * 20 + ["z"] * 5 + [None] * 5})

    assert row(measure(reference, day), "x")["psi"] == pytest.approx(textbook([60, 30, 0, 10], [20, 20, 5, 5]))


def category(values: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.String})


KINDS: dict[str, tuple[pl.DataFrame, pl.DataFrame, dict[str, object], str]] = {
    "beyond the ends of a constant": (  # which has no standard deviation to measure in
        column([7.0] * 500), column([9.0] * 500), {"ks": 1, "normed_wasserstein": None}, "PSI",
    ),
    "between the values of the reference": (
        column([0.0] * 100 + [1.0] * 100), column([0.0] * 100 + [0.5] * 60 + [1.0] * 40),
        {"ks": pytest.approx(0.3), "normed_wasserstein": pytest.approx(0.3 * 0.5 / 0.5)}, "",
    ),
    "a flag is zero and one": (
        pl.DataFrame({"x": [True] * 50 + [False] * 50}), pl.DataFrame({"x": [True] * 80 + [False] * 20}),
        {"kind": "numeric", "ks": pytest.approx(0.3)}, "PSI",
    ),
    "missing all day": (
        column(range(100)), column([None] * 100), {"ks": None, "normed_wasserstein": None, "null_share": 1.0},
        "share of missing values 1.0 against 0.0: the change is over 0.2",
    ),
    "missing all day, of type Null": (
        column(range(100)), pl.DataFrame({"x": [None] * 10}, schema={"x": pl.Null}), {"null_share": 1.0}, "missing",
    ),
    "no longer missing": (column([None] * 50 + [1.0] * 50), column([1.0] * 100), {"null_share": 0.0}, "missing"),
    "never there before": (column([None] * 100), column([1.0] * 100), {"null_share_reference": 1.0}, "PSI"),
    "new categories": (
        category(["a"] * 60 + ["b"] * 40), category(["a"] * 60 + ["b"] * 30 + ["z"] * 10),
        {"new_category_share": pytest.approx(0.1), "ks": None, "normed_wasserstein": None},
        "share of new categories 0.1 against at most 0.0 usually: the rise is over 0.05",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_drift_has_its_figures_and_its_reason(kind: str) -> None:
    reference, day, figures, reason = KINDS[kind]

    measured = row(measure(reference, day), "x")

    assert figures == {name: measured[name] for name in figures}
    assert bool(reason) == measured["is_over"]
    assert reason in str(measured["reason"])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_in_a_day_and_in_the_reference(number: float) -> None:
    good, bad = column([1.0, 2.0]), column([1.0, number])

    with pytest.raises(DataError, match="column 'x' is NaN or infinite in 1 of 2 rows"):
        measure(good, bad)
    with pytest.raises(DataError, match="column 'x' of the training rows is NaN or infinite in 1 of 2 rows"):
        measure(bad, good)


def test_categories_of_any_type_are_distinguished_by_their_text() -> None:
    reference = pl.DataFrame({"x": ["1"] * 50 + ["2"] * 50})
    sketch = sketch_reference(reference, features=[feature("x", is_categorical=True)], score=None)

    for day in (pl.Series([1] * 5 + [2] * 5), pl.Series(["1"] * 5 + ["2"] * 5, dtype=pl.Categorical)):
        drift = against(sketch, day.alias("x").to_frame())
        assert (row(drift, "x")["psi"], row(drift, "x")["new_category_share"]) == (0, 0)


def two_features(rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "wind": generator.normal(shift, 1, rows),
            "rain": generator.normal(0, 1, rows),
            "score": generator.uniform(size=rows),
        }
    )


def test_a_quiet_day_is_under_every_limit_and_reports_its_figures() -> None:
    drift = measure(two_features(10_000, 1), two_features(1_000, 2), wind=0.7, rain=0.3)

    assert not drift.summary.is_over
    assert drift.summary.drifted_features == ()
    assert drift.summary.sentence.startswith("weighted excess PSI 0.00")
    assert f"of {DAY} is not over 0.1; the score's excess PSI 0.0" in drift.summary.sentence


def test_weighted_excess_psi_is_the_sum_of_weight_times_excess_psi() -> None:
    drift = measure(two_features(10_000, 1), two_features(1_000, 2, shift=0.5), wind=0.7, rain=0.3)
    excess = {name: row(drift, name)["excess_psi"] for name in ("wind", "rain")}

    assert drift.summary.weighted_excess_psi == pytest.approx(0.7 * excess["wind"] + 0.3 * excess["rain"])  # type: ignore[operator]


def test_drift_of_an_important_feature_is_over_and_of_an_unimportant_one_is_not() -> None:
    reference, day = two_features(10_000, 1), two_features(1_000, 2, shift=0.6)

    heavy, light = measure(reference, day, wind=0.9, rain=0.1), measure(reference, day, wind=0.1, rain=0.9)

    assert heavy.summary.drifted_features == ("wind",)
    assert "of the weighted excess PSI" in str(row(heavy, "wind")["reason"])
    assert "is over 0.1" in heavy.summary.sentence
    assert "highest: wind (excess PSI 0." in heavy.summary.sentence
    assert light.summary.drifted_features == ()


def test_one_broken_feature_of_many_is_over_though_the_sum_is_not() -> None:
    def many(seed: int) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        return pl.DataFrame({f"x{number}": random.normal(size=2_000) for number in range(90)})

    drift = measure(many(1), many(2).with_columns(pl.col("x7") * 10))

    assert drift.summary.weighted_excess_psi is not None
    assert drift.summary.weighted_excess_psi < LIMITS.weighted_excess_psi
    assert drift.summary.drifted_features == ("x7",)
    assert "x7: excess PSI 6." in drift.summary.sentence
    assert "times 1.0, its weight relative to the average, is over 2" in drift.summary.sentence


def test_drift_of_the_score_alone_exceeds_the_limit_of_the_day() -> None:
    day = two_features(1_000, 2).with_columns(score=pl.col("score") ** 3)
    drift = measure(two_features(10_000, 1), day, wind=0.5, rain=0.5)

    assert drift.summary.drifted_features == ("score",)
    assert drift.summary.score_excess_psi == row(drift, "score")["excess_psi"]
    assert row(drift, "score")["weight"] is None


def test_the_day_is_over_where_a_row_is() -> None:
    for shift in (0.0, 0.3, 0.6, 2.0):
        drift = measure(two_features(5_000, 1), two_features(500, 2, shift=shift), wind=0.8, rain=0.2)
        over = drift.table.filter("is_over")

        assert drift.summary.is_over == (over.height > 0)
        assert set(drift.summary.drifted_features) == set(over["feature"])
        assert (over["reason"] != "").all()


def test_too_few_rows_are_not_judged_and_have_no_figures() -> None:
    limits = DriftLimits(**{**vars(LIMITS), "min_rows": 200})
    drift = measure(two_features(5_000, 1), two_features(199, 2, shift=9.0), limits=limits, wind=1.0)

    assert drift.summary.state == "not judged"
    assert (drift.summary.weighted_excess_psi, drift.summary.score_excess_psi) == (None, None)
    assert drift.summary.sentence.startswith(
        "drift of 2013-11-05 is not judged: 199 rows are too few, at least 200 are needed; with drift.pool_days: 2, "
    )
    figures = ("psi", "excess_psi", "ks", "normed_wasserstein", "null_share", "weighted_excess_psi")
    assert drift.table.select(figures).null_count().row(0) == (3,) * len(figures)
    assert drift.table["rows"].to_list() == [199] * 3
    assert "not judged" == measure(two_features(500, 1), two_features(0, 2)).summary.state


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (60, "; with drift.pool_days: 92, this many days are judged together"),
        (50, "; 112 days, the most that are judged together, have about 186 at this rate, so drift is never judged"),
        (0, "at least 200 are needed."),
    ],
)
def test_a_month_with_too_few_rows_says_whether_several_months_together_would_be_judged(rows: int, advice: str) -> None:
    known = Reference.of(sketch_reference(normal(500, 1), features=[feature("x")], score=None), model="late")
    june = Pooled("2013-06-01", "2013-06-01", Calendar("month"))
    limits = DriftLimits(**{**vars(LIMITS), "min_rows": 200})

    drift = measure_drift(normal(rows, 2), Watched("late", "v1", known, {}), june, limits)

    assert advice in drift.summary.sentence


def test_the_table_has_the_agreed_columns_with_the_score_first() -> None:
    drift = measure(two_features(500, 1), two_features(500, 2, shift=1), wind=0.5, rain=0.5)

    assert drift.table.schema == TABLE_SCHEMA
    assert drift.table["feature"].to_list() == ["score", "wind", "rain"]
    assert drift.table["kind"].to_list() == ["score", "numeric", "numeric"]


def test_many_rows_of_a_file_are_measured_a_column_at_a_time_like_all_in_memory(tmp_path: Path) -> None:
    day = two_features(MANY + 1, 2, shift=0.3).with_columns(wind=pl.col("wind").round(1), note=pl.lit("x"))
    day.write_parquet(tmp_path / "day.parquet", row_group_size=1_000)

    held = measure(two_features(500, 1), day).table
    assert measure(two_features(500, 1), pl.scan_parquet(tmp_path / "day.parquet")).table.to_dicts() == held.to_dicts()


def test_a_reference_read_once_measures_like_the_sketch_it_was_read_from() -> None:
    reference = pl.DataFrame({"x": [*range(99), None], "c": ["a", "b", None, "b"] * 25})
    features = [feature("x"), feature("c", is_categorical=True)]
    sketch = sketch_reference(reference, features=features, score=pl.Series([0.5] * 100))
    known = Reference.of(sketch, model="late")
    days = [reference.with_columns(score=pl.lit(0.5)), pl.DataFrame({"x": [5.0], "c": ["z"], "score": [0.1]})]

    for day in days:
        first, second = (against(reference, day, x=1.0) for reference in (sketch, known))
        assert first.table.to_dicts() == second.table.to_dicts()
        assert first.summary == second.summary


def test_weights_are_normalized_and_none_means_equal() -> None:
    reference = two_features(500, 1)

    assert row(measure(reference, reference, wind=3.0, rain=1.0), "wind")["weight"] == 0.75
    assert row(measure(reference, reference), "wind")["weight"] == 0.5
    assert row(measure(reference, reference, rain=1.0), "wind")["weight"] == 0.0


def weather(days: int, seed: int, *, missing: float = 0.0) -> pl.DataFrame:
    """Return days of 100 rows that share their day's temperature; on some days the gauge is broken for all rows."""
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "day": np.repeat(np.arange(days), 100),
            "celsius": np.repeat(generator.normal(15, 8, days), 100) + generator.normal(0, 1, days * 100),
            "gauge": pl.Series(np.where(np.repeat(generator.uniform(size=days) < missing, 100), np.nan, 1.0)).fill_nan(
                None
            ),
        }
    )


def known_weather(reference: pl.DataFrame, *, with_days: bool) -> Reference:
    days = reference["day"] if with_days else None
    features = [feature("celsius"), feature("gauge")]
    return Reference.of(sketch_reference(reference, features=features, score=None, days=days), model="late")


def over(reference: pl.DataFrame, days: pl.DataFrame, *, with_days: bool) -> int:
    known = known_weather(reference, with_days=with_days)
    return sum(against(known, day).summary.is_over for day in days.partition_by("day"))


def test_days_that_vary_like_the_reference_days_are_seldom_drift_if_these_are_given() -> None:
    reference, days = weather(200, seed=1, missing=0.3), weather(100, seed=2, missing=0.3)

    assert over(reference, days, with_days=False) == 100
    assert over(reference, days, with_days=True) <= 10


def test_the_same_weather_is_no_stranger_on_a_day_of_more_rows() -> None:
    reference, days = weather(60, seed=1), weather(30, seed=2).partition_by("day")
    known = known_weather(reference, with_days=True)
    psi = [row(against(known, pl.concat([day] * times)), "celsius")["excess_psi"] for times in (1, 10) for day in days]

    assert psi[30:] == pytest.approx(psi[:30], abs=0.1)


def test_a_change_of_unit_is_drift_though_days_differ() -> None:
    days = weather(50, seed=2).with_columns(celsius=pl.col("celsius") * 1.8 + 32)

    assert over(weather(200, seed=1), days, with_days=True) >= 45


def test_a_gauge_that_never_broke_and_breaks_is_drift() -> None:
    measured = against(known_weather(weather(200, seed=1), with_days=True), weather(1, seed=2, missing=1.0))

    assert "share of missing values 1.0 against 0.0" in str(row(measured, "gauge")["reason"])


def test_rows_of_a_single_day_have_nothing_usual() -> None:
    reference, day = weather(1, seed=1), weather(1, seed=2)
    known, unknown = (against(known_weather(reference, with_days=it), day) for it in (True, False))

    assert known.table.to_dicts() == unknown.table.to_dicts()


def test_missing_and_mistyped_columns_are_listed_at_once() -> None:
    day = pl.DataFrame({"rain": ["wet"], "score": [0.5]})

    with pytest.raises(ContractError) as error:
        measure(two_features(500, 1), day)

    assert "column 'wind' is missing; the contract of model 'late' requires it" in str(error.value)
    assert "feature 'rain' is String" in str(error.value)


def test_a_frame_that_is_no_reference_is_refused() -> None:
    with pytest.raises(ContractError, match=r"reference of model 'late' has 1 rows of x Int64; expected the sketch"):
        against(pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [1]}))


def test_weights_of_unknown_features_and_below_zero_are_refused() -> None:
    reference = two_features(500, 1)

    with pytest.raises(ContractError, match="drift weights are given for snow"):
        measure(reference, reference, snow=1.0)
    with pytest.raises(DataError, match=r"wind = -1\.0; expected shares from 0"):
        measure(reference, reference, wind=-1.0)


def test_a_feature_that_is_a_part_of_the_key_is_measured_once() -> None:
    features = normal(200, seed=1)
    known = Reference.of(sketch_reference(features, features=[feature("x")], score=None), model="late")
    rows = features.with_columns(pl.struct("x").alias("features"), model_version=pl.lit("v1"), day=DAY)

    measured = measure_day({str(DAY): rows}, str(DAY), watched=lambda it: Watched("late", it, known, {}), limits=LIMITS)

    assert measure(features, features).table.to_dicts() == measured.table.drop("model_version").to_dicts()

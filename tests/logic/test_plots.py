import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.evaluation import Baseline, Evaluation, EvaluationSummary, Interval
from ml_assets.contracts.artifacts.monitoring import Drift, DriftSummary, PerformanceSummary
from ml_assets.contracts.artifacts.training import Importances, ImportancesSummary, Task, TunedParameters, Tuning
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.evaluation.measuring import SLICES_SCHEMA
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.plots.drawing import COLOURS, as_markdown_image, interval, metric_name, number, share
from ml_assets.logic.plots.evaluation import (
    calibration_plot,
    confusion_plot,
    evaluation_plots,
    precision_recall_plot,
    residual_plot,
    roc_plot,
    slice_plot,
)
from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot, performance_plot
from ml_assets.logic.plots.training import importance_plot, selection_plot, tuning_plot
from tests.records import record, slice_row

pytestmark = pytest.mark.usefixtures("rendered")
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """All that a reader sees as text, and the title."""
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter() if each.tag in (f"{SVG}text", f"{SVG}title")]  # noqa: S314


def title(svg: str) -> str:
    return next(each.text or "" for each in ET.fromstring(svg) if each.tag == f"{SVG}title")  # noqa: S314


def importances(features: int = 3, name: str = "wind_gust") -> Importances:
    names = [f"{name}_{at}" for at in range(features)]
    table = pl.DataFrame(
        {
            "feature": [*names, "noise_numeric"],
            "gain_share": [0.5 / (at + 1) for at in range(features + 1)],
            "shap_share": [0.6 / (at + 1) for at in range(features + 1)],
            "permutation": [0.02 / (at + 1) for at in range(features + 1)],
            "permutation_std": [0.001] * (features + 1),
            "is_selected": [*[True] * features, False],
            "rank": list(range(1, features + 2)),
        }
    )
    summary = record(ImportancesSummary, selected=tuple(names), dropped=("gone",))
    return Importances(table, pl.DataFrame(), summary)


def tuning(values: list[float | None], best: int) -> Tuning:
    trials = pl.DataFrame(
        {
            "trial": range(len(values)),
            "state": ["pruned" if value is None else "complete" for value in values],
            "value": values,
            "is_best": [at == best for at in range(len(values))],
        },
        schema_overrides={"value": pl.Float64},
    )
    tuned = record(TunedParameters, value=values[best] or 0.0, trials=len(values), pruned=values.count(None))
    return Tuning(trials, tuned)


def curve(name: str, x: object, y: object, threshold: object = None) -> pl.DataFrame:
    schema = {"curve": pl.String, "x": pl.Float64, "y": pl.Float64, "threshold": pl.Float64}
    x, y = list(x), list(y)  # type: ignore[call-overload]
    rows = {"curve": [name] * len(x), "x": x, "y": y, "threshold": threshold or [None] * len(x)}
    return pl.DataFrame(rows, schema=schema)


def evaluation(
    task: Task = "binary", *, curves: list[pl.DataFrame] | None = None, slices: list[dict[str, object]] | None = None
) -> Evaluation:
    x = np.linspace(0, 1, 30)
    main = {"binary": "roc_auc", "regression": "rmse", "multiclass": "macro_f1"}[task]
    metrics = {main: Interval(value=0.7312, low=0.7243, high=0.7381)}
    if task == "binary":
        metrics["average_precision"] = Interval(value=0.47, low=0.46, high=0.48)
        metrics["calibration_error"] = Interval(value=0.0123, low=0.0083, high=0.0163)
    baseline = Baseline(name="constant", description="", metrics={"roc_auc": 0.5, "average_precision": 0.25})
    summary = record(
        EvaluationSummary, task=task, metric=main, target_mean=0.25, metrics=metrics, baselines=(baseline,)
    )
    default = [
        curve("roc", x, x**0.4),
        curve("precision_recall", x, 1 - 0.7 * x),
        curve("score_histogram", x, 100 * (1 - x)),
    ]
    bins = pl.DataFrame(
        {
            "bin": [0, 1], "rows": [600, 634], "score_mean": [0.1, 0.4], "truth_mean": [0.11, 0.5],
            "low": [0.08, 0.46], "high": [0.14, 0.54],
        }
    )  # fmt: skip
    return Evaluation(
        summary,
        pl.DataFrame(slices or [], schema=SLICES_SCHEMA),
        pl.concat(default if curves is None else curves),
        bins if task == "binary" else bins.clear(),
    )


def drift(psi: list[float | None], *, over: tuple[int, ...] = ()) -> Drift:
    table = pl.DataFrame(
        {
            "feature": ["score", *[f"feature_{at}" for at in range(1, len(psi))]],
            "kind": ["score", *["numeric"] * (len(psi) - 1)],
            "excess_psi": psi,
            "weight": [None, *[0.1] * (len(psi) - 1)],
            "weighted_excess_psi": [None if value is None else 0.1 * value for value in psi],
            "is_over": [at in over for at in range(len(psi))],
        },
        schema_overrides=dict.fromkeys(["excess_psi", "weight", "weighted_excess_psi"], pl.Float64),
    )
    return Drift(table, drift_day(0))


def drift_day(at: int, **changes: object) -> DriftSummary:
    day = date(2013, 12, 1) + timedelta(at)
    known = {"day": day, "first_day": day, "weighted_excess_psi": 0.01 * (at + 1)}
    return record(DriftSummary, sentence=f"Weighted excess PSI 0.010 of {day} is not over 0.1.", **known | changes)


def performance_day(at: int, **metrics: float) -> PerformanceSummary:
    return record(
        PerformanceSummary, day=date(2013, 12, 1) + timedelta(at), labelled=850,
        measured={name: Interval(value=value, low=value - 0.05, high=value + 0.05) for name, value in metrics.items()},
        expected_labelled={"roc_auc": 0.735},
    )  # fmt: skip


CONFUSION = curve("confusion", [0, 0, 1, 1], [0, 1, 0, 1], [8.0, 2.0, 1.0, 4.0])
RESIDUALS = curve("residual_quantiles", [0, 0.5, 1], [-9, 1, 12])
PLOTS: dict[str, Callable[[], str]] = {
    "importances": lambda: importance_plot(importances().table, "roc_auc"),
    "selection": lambda: selection_plot(importances()),
    "tuning": lambda: tuning_plot(tuning([0.70, None, 0.74, 0.72], best=2)),
    "roc": lambda: roc_plot(evaluation()),
    "precision_recall": lambda: precision_recall_plot(evaluation()),
    "calibration": lambda: calibration_plot(evaluation()),
    "slices": lambda: slice_plot(evaluation(slices=[slice_row("UA", 900, 0.72), slice_row("B6", 300, 0.70)])),
    "drift": lambda: drift_plot(drift([0.01, 0.2, None], over=(1,))),
    "drift_history": lambda: drift_history_plot([drift_day(at) for at in range(40)]),
    "performance": lambda: performance_plot([performance_day(at, roc_auc=0.7) for at in range(5)], "roc_auc"),
    "residuals": lambda: residual_plot(evaluation("regression", curves=[RESIDUALS])),
    "confusion": lambda: confusion_plot(evaluation("multiclass", curves=[CONFUSION])),
}


@cache
def drawn(name: str) -> str:
    return PLOTS[name]()


@pytest.mark.parametrize("name", ["importances", "roc", "confusion", "drift_history"])
def test_the_same_artifact_gives_the_same_text(name: str) -> None:
    assert drawn(name) == PLOTS[name]()


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_well_formed_small_and_refers_to_nothing_outside(name: str) -> None:
    svg = drawn(name)
    root = ET.fromstring(svg)  # noqa: S314

    assert root.get("width") == "640"
    assert root.get("role") == "img"
    assert len(as_markdown_image(svg, name)) < 60_000
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', svg))
    assert f"{date.today().year}-" not in svg  # noqa: DTZ011 - a date of making would be today's


@pytest.mark.parametrize("name", PLOTS)
def test_ids_are_unique_on_a_page_with_all_plots_and_each_reference_has_its_id(name: str) -> None:
    ids = {other: re.findall(r' id="([^"]*)"', drawn(other)) for other in PLOTS}
    svg = drawn(name)
    elsewhere = {each for other, found in ids.items() if other != name for each in found}

    assert len(ids[name]) == len(set(ids[name]))
    assert elsewhere.isdisjoint(ids[name])
    assert set(re.findall(r'(?:href="|url\()#([\w.-]+)', svg)) <= set(ids[name])


def test_a_plot_leaves_the_settings_of_matplotlib_as_they_were() -> None:
    before = dict(mpl.rcParams)

    roc_plot(evaluation())

    assert dict(mpl.rcParams) == before


def test_settings_of_the_machine_do_not_change_a_plot() -> None:
    expected = drawn("roc")

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert roc_plot(evaluation()) == expected


def test_every_colour_can_be_replaced_by_the_page() -> None:
    svg = slice_plot(evaluation(slices=[slice_row("UA", 900, 0.72)]))
    bare = re.sub(r"var\(--[\w-]+,#[0-9a-f]{6}\)", "", svg)

    assert re.findall(r"#[0-9a-f]{6}\b", bare) == []
    assert set(re.findall(r"var\(--([\w-]+),", svg)) <= set(COLOURS)


UNMEASURED = drift_day(1, weighted_excess_psi=None, score_excess_psi=None)
TITLES: dict[str, tuple[Callable[[], str], str]] = {
    "a metric with its interval": (lambda: drawn("roc"), "ROC AUC 0.731 [0.724, 0.738]"),
    "the feature that carries the model": (lambda: drawn("importances"), "wind_gust_0 carries 60.0 % of mean |SHAP|"),
    "the best trial": (
        lambda: drawn("tuning"), "Best validation ROC AUC 0.740 (no interval) in trial 2, of 4 trials (1 pruned)",
    ),
    "the bins whose score is within the interval": (
        lambda: drawn("calibration"),
        "Calibration error 0.012 [0.008, 0.016]; in 1 of 2 bins the score is within the 95 % interval of the truth",
    ),
    "the days over the limits, in any order": (
        lambda: drift_history_plot([drift_day(2, is_over=True), drift_day(0), drift_day(1)]),
        "Over the limits on 1 of 3 days; within the limits on 2 of 3 days; weighted excess PSI of 2013-12-03: 0.030",
    ),
    "a day with too few rows": (
        lambda: drift_history_plot([drift_day(0), UNMEASURED]),
        "Not judged on 1 of 2 days; within the limits on 1 of 2 days; weighted excess PSI of 2013-12-01: 0.010",
    ),
    "no day with enough rows": (lambda: drift_history_plot([UNMEASURED]), "Not judged"),
    "a day whose metric is unknown": (
        lambda: performance_plot([performance_day(1), performance_day(2, roc_auc=0.72)], "roc_auc"),
        (
            "ROC AUC 0.720 [0.670, 0.770] on 850 labelled rows of 2013-12-03, 0.735 was expected of them; "
            "measured on 1 of 2 days"
        ),
    ),
    "no day whose metric is known": (
        lambda: performance_plot([performance_day(0)], "roc_auc"),
        "ROC AUC could not be measured yet on any of 1 days",
    ),
}  # fmt: skip


@pytest.mark.parametrize("of", TITLES)
def test_the_title_states_the_result_and_no_number_for_what_was_not_measured(of: str) -> None:
    plot, expected = TITLES[of]

    assert expected == title(plot())


def test_baselines_are_drawn_next_to_the_model_with_their_figures() -> None:
    assert {"this model  0.731", "constant  0.500"} <= set(texts(drawn("roc")))


def test_the_selection_plot_names_selected_features_and_marks_the_noise() -> None:
    svg = selection_plot(importances())

    assert title(svg) == "3 of 4 features are selected"
    assert {"noise_numeric", "injected noise"} <= set(texts(svg))


def test_only_the_first_features_are_drawn_and_the_plot_states_how_many_are_not() -> None:
    svg = selection_plot(importances(features=400))

    assert "375 less important features are not shown" in texts(svg)
    assert "noise_numeric" in texts(svg)
    assert len(as_markdown_image(svg, "")) < 60_000


def test_names_with_markup_and_dollars_are_escaped_and_shown_as_they_are() -> None:
    svg = selection_plot(importances(name="<script>$a_b$&"))

    assert "<script>$a_b$&_0" in texts(svg)
    assert "<script>" not in svg


def test_the_plots_of_an_evaluation_follow_its_task() -> None:
    binary = evaluation(slices=[slice_row("UA", 900, 0.72)])
    regression = evaluation("regression", curves=[RESIDUALS, curve("predicted_actual", [1, 2], [1, 3])])
    multiclass = evaluation("multiclass", curves=[CONFUSION])

    assert list(evaluation_plots(binary)) == ["roc", "precision_recall", "calibration", "score_histogram", "slices"]
    assert list(evaluation_plots(regression)) == ["predicted_actual", "residuals"]
    assert list(evaluation_plots(multiclass)) == ["confusion"]


def test_confusion_counts_the_diagonal_and_names_the_classes() -> None:
    svg = confusion_plot(evaluation("multiclass", curves=[CONFUSION]), classes=("early", "late"))

    assert title(svg) == "12 of 15 test rows (80.0 %) are on the diagonal"
    assert texts(svg).count("early") == 2
    assert {"80 %", "20 %"} <= set(texts(svg))


def test_of_many_classes_the_smallest_are_omitted_and_the_plot_states_it() -> None:
    at = [float(index) for index in range(40)]
    svg = confusion_plot(evaluation("multiclass", curves=[curve("confusion", at, at, [index + 1.0 for index in at])]))

    assert "% of the true class's rows; 28 smaller classes are not shown" in texts(svg)


def test_the_axis_of_the_slices_is_that_of_the_slices_with_enough_rows() -> None:
    judged = [slice_row("UA", 900, 0.72, low=0.71, high=0.73), slice_row("B6", 300, 0.70, low=0.68, high=0.72)]
    small = slice_row("HA", 9, 0.3, low=0.05, high=0.95, is_judged=False, reason="9 rows; 200 are needed")

    ticks = [
        re.findall(r">(0\.\d+)</text>", slice_plot(evaluation(slices=slices))) for slices in (judged, [*judged, small])
    ]

    assert ticks[0] == ticks[1] != []


def test_slices_without_enough_rows_are_shown_but_not_summed_up() -> None:
    judged, small = [slice_row("UA", 900, 0.72), slice_row("B6", 700, 0.70)], slice_row("HA", 9, 0.10, is_judged=False)
    svg = slice_plot(evaluation(slices=[*judged, small]))

    assert title(svg) == "ROC AUC by slice: 0.700 to 0.720 over 2 slices with enough rows"
    assert "HA  (9)" in texts(svg)


def test_of_many_slices_the_smallest_are_omitted_and_the_plot_states_it() -> None:
    svg = slice_plot(evaluation(slices=[slice_row(f"s{at}", 10 + at, 0.7) for at in range(50)]))

    assert "18 smaller slices are not shown" in texts(svg)
    assert "s49  (59)" in texts(svg)
    assert len(as_markdown_image(svg, "")) < 60_000


@pytest.mark.parametrize(("low", "high", "colour"), [(0.01, 0.05, "green"), (-0.05, -0.01, "vermillion")])
def test_a_slice_that_differs_from_the_champion_has_its_colour(low: float, high: float, colour: str) -> None:
    changes = {"champion_score": 0.7, "difference": 0.03, "difference_low": low, "difference_high": high}

    def count(svg: str) -> int:
        return svg.count(f"--plot-{colour},")

    same = changes | {"difference_low": -0.1, "difference_high": 0.1}
    differs, alike = (slice_plot(evaluation(slices=[slice_row("UA", **it)])) for it in (changes, same))

    assert count(differs) > count(alike)
    assert any("own 95 % interval of the difference, not Holm's rule" in text for text in texts(differs))


def test_the_drift_plot_shows_its_sentence_and_no_figure_for_unmeasured_features() -> None:
    svg = drawn("drift")

    assert title(svg) == "Weighted excess PSI 0.010 of 2013-12-01 is not over 0.1."
    assert "not judged  (weight 10.0 %)" in texts(svg)
    assert "0.200  (weight 10.0 %)" in texts(svg)


def test_all_features_over_their_limits_are_drawn() -> None:
    svg = drift_plot(drift([0.3] * 60, over=tuple(range(1, 40))))

    assert {f"feature_{at}" for at in range(1, 40)} <= set(texts(svg))


def test_the_day_from_which_another_model_predicts_is_marked() -> None:
    days = [drift_day(at) for at in range(3)]
    other = [*days[:2], days[2].model_copy(update={"model_version": "v2"})]

    lines = [drift_history_plot(shown).count("stroke-dasharray") for shown in (days, other)]

    assert 1 == lines[1] - lines[0]


def test_each_hour_has_a_place_of_its_own() -> None:
    begins = [datetime(2013, 12, 1) + timedelta(hours=it) for it in range(48)]  # noqa: DTZ001 - UTC
    shown = [performance_day(0, roc_auc=0.7).model_copy(update={"day": it.date(), "hour": it}) for it in begins]
    svg = performance_plot(shown, "roc_auc")

    intervals = re.findall(
        r'<path d="M ([\d.]+) [\d.]+ L \1 [\d.]+" clip-path="[^"]*" style="[^"]*stroke-width: 1.2', svg
    )
    assert 48 == len(set(intervals))
    assert "hour (UTC), 2013-12-01 00:00 to 2013-12-02 23:00" in texts(svg)


@pytest.mark.parametrize("days", [1, 3, 31, 400])
def test_days_on_the_axis_are_few_and_in_order(days: int) -> None:
    svg = drift_history_plot([drift_day(at) for at in range(days)])
    ticks = [text for text in texts(svg) if re.fullmatch(r"(\d{2,4}-)?\d\d-\d\d", text)]

    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)


WITHOUT_RANKS = Importances(importances().table.drop("is_selected", "rank"), pl.DataFrame(), importances().summary)
REFUSED: dict[str, tuple[Callable[[], str], type[Exception], str]] = {
    "no day of drift": (lambda: drift_history_plot([]), DataError, r"has no days.*Materialize a day first"),
    "no day of performance": (
        lambda: performance_plot([], "roc_auc"), DataError, r"has no days.*Materialize a day first",
    ),
    "no complete trial": (
        lambda: tuning_plot(tuning([None, None], best=0)), DataError,
        r"no trial of the 2 .* is complete.*Raise the tuning budget",
    ),
    "a curve of another task": (
        lambda: roc_plot(evaluation("multiclass", curves=[CONFUSION])), DataError,
        r"curve 'roc' is missing .* model 'late'.* multiclass; it has confusion",
    ),
    "missing columns": (
        lambda: selection_plot(WITHOUT_RANKS), ContractError,
        r"columns 'rank', 'is_selected' of artifact 'importances' are missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_an_error_with_a_fix(case: str) -> None:
    plot, error, message = REFUSED[case]

    with pytest.raises(error, match=message):
        plot()


def test_a_long_curve_is_thinned_and_its_ends_are_unchanged() -> None:
    x = np.linspace(0, 1, 50_000)
    svg = roc_plot(evaluation(curves=[curve("roc", x, x**0.4)]))

    assert len(svg) < 25_000
    assert title(svg).startswith("ROC AUC")


def test_the_markdown_image_contains_the_plot_and_its_text_is_escaped() -> None:
    image = as_markdown_image("<svg/>", "ROC [AUC](x)\n0.7")

    assert image.startswith("![ROC \\[AUC\\](x) 0.7](data:image/svg+xml;base64,")
    assert base64.b64decode(image.rsplit(",", 1)[1].rstrip(")")) == b"<svg/>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0.000"), (1, "1"), (12345, "12,345"), (0.73123, "0.731"),
     (0.00042, "0.00042"), (21.0, "21.00"), (1234.5, "1,234"), (-0.5, "−0.500")],
)  # fmt: skip
def test_a_figure_has_the_digits_that_matter(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_an_interval_has_the_same_digits_throughout_and_never_looks_like_a_point() -> None:
    assert interval(Interval(value=21.4, low=21.0, high=21.8)) == "21.40 [21.00, 21.80]"
    assert interval(Interval(value=0.5, low=0.4998, high=0.5002)) == "0.5000 [0.4998, 0.5002]"
    assert share(0.1731) == "17.3 %"


@given(st.floats(-1e6, 1e6), st.floats(0, 10), st.floats(0, 10))
def test_a_written_interval_reads_back_within_its_last_digit(value: float, below: float, above: float) -> None:
    figure = Interval(value=value, low=value - below, high=value + above)
    parts = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", interval(figure))
    assert parts is not None

    for written, expected in zip(parts.groups(), (figure.value, figure.low, figure.high), strict=True):
        plain = written.replace("−", "-").replace(",", "")
        decimals = len(plain.partition(".")[2])
        assert float(plain) == pytest.approx(expected, abs=0.51 * 10**-decimals)


def test_every_metric_has_a_name_for_people() -> None:
    assert {metric_name(name) for name in METRICS} == {metric.title for metric in METRICS.values()}
    assert metric_name("own_metric") == "own_metric"

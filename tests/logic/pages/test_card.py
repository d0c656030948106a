import base64
import hashlib
import html
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import (
    Baseline,
    Comparison,
    CrossValidation,
    Evaluation,
    EvaluationSummary,
    GroupCount,
    GroupPart,
    Interval,
    KnownGroups,
    OperatingPoint,
    RowWeights,
)
from ml_assets.contracts.artifacts.monitoring import Drift, DriftSummary, PerformanceSummary
from ml_assets.contracts.artifacts.training import (
    Feature,
    HashSplit,
    Importances,
    ImportancesSummary,
    ModelSpec,
    TrainingSetSummary,
    TunedParameters,
    Tuning,
    Window,
)
from ml_assets.contracts.decisions import Promotion, RuleRecord
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.leaks import KnownTime
from ml_assets.contracts.shadow import Shadow, ShadowedChallenger
from ml_assets.logic.evaluation.measuring import SLICES_SCHEMA
from ml_assets.logic.inspection.lone_columns import LonePredictor
from ml_assets.logic.pages.card import SECTIONS, render_card
from ml_assets.logic.pages.card_input import CardInput, CardTable, Making, ScoreLine
from ml_assets.logic.pages.card_words import left_out
from ml_assets.logic.pages.card_words import test_days as measured_days
from ml_assets.logic.point_in_time.suspects import LeakFindings
from tests.page import Page
from tests.records import record, slice_row

pytestmark = pytest.mark.usefixtures("rendered")
EVIL = '<script>alert("x")</script>&'


def findings(**changes: Any) -> LeakFindings:
    """Return what is known of leaks where nothing was found."""
    return replace(LeakFindings(is_tested=True, cuts=2, cut_days=2, rows=1234, days=9, untested=0), **changes)


def training_set(feature: str = "wind_gust", **changes: Any) -> TrainingSetSummary:
    days = {
        "train": (date(2013, 1, 1), date(2013, 9, 30), 246113, 0.2412),
        "validation": (date(2013, 10, 1), date(2013, 10, 31), 41893, 0.23),
        "test": (date(2013, 11, 1), date(2013, 12, 31), 52431, 0.25),
    }
    features = (
        Feature(name=feature, dtype="Float64", unit="mph", description="Strongest gust."),
        Feature(name="humid", dtype="Float64", unit="%"),
    )
    windows = tuple(
        Window(split=split, first_day=first, last_day=last, rows=rows, target_mean=mean)  # type: ignore[arg-type]
        for split, (first, last, rows, mean) in days.items()
    )
    known = {"features": features, "windows": windows, "excluded_rows": {"cancelled": 8255}}
    return record(TrainingSetSummary, **known | changes)


def model() -> ModelSpec:
    return record(
        ModelSpec, features=training_set().features[:1], vocabularies={"carrier": ("UA", "B6")},
        parameters={"learning_rate": 0.0831234567, "num_leaves": 63}, last_training_day=date(2013, 9, 30),
        training_rows=246113,
    )  # fmt: skip


def importances(feature: str = "wind_gust") -> Importances:
    table = pl.DataFrame(
        {
            "feature": [feature, "humid", "noise_numeric"],
            "gain_share": [0.7, 0.2, 0.1],
            "shap_share": [0.654, 0.01, 0.002],
            "permutation": [0.0321, -0.00003, 0.0004],
            "permutation_std": [0.001, 0.001, 0.001],
            "is_selected": [True, False, False],
            "reason": ["beats noise in 3 of 3 folds", "beats noise in 1 of 3 folds", "injected noise"],
            "rank": [1, 2, 3],
        }
    )
    summary = record(ImportancesSummary, score=0.7412, rows=5_000, selected=(feature,), dropped=("humid",))
    return Importances(table, pl.DataFrame(), summary)


def tuning() -> Tuning:
    trials = pl.DataFrame(
        {"trial": [0, 1], "state": ["complete", "pruned"], "value": [0.7441, None], "is_best": [True, False]}
    )
    return Tuning(trials, record(TunedParameters, value=0.7441, parameters={"learning_rate": 0.08312}, pruned=1))


def comparison(against: str, low: float, high: float) -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        against=against, metric="roc_auc", challenger=0.7312, other=0.7312 - middle,
        difference=Interval(value=middle, low=low, high=high), rows=52431, clusters=61,
    )  # fmt: skip


def evaluation(*, champion: tuple[float, float] | None = (0.002, 0.012), slice_value: str = "UA") -> Evaluation:
    summary = record(
        EvaluationSummary, model_version="v2", rows=52431, target_mean=0.25,
        metrics={
            "roc_auc": Interval(value=0.7312, low=0.7246, high=0.7378),
            "brier": Interval(value=0.1617, low=0.1593, high=0.1641),
        },
        baselines=(Baseline(name="shallow tree", description="8 leaves", metrics={"roc_auc": 0.662}),),
        against_baselines=(comparison("shallow tree", 0.06, 0.08),),
        against_champion=comparison("champion", *champion) if champion else None,
        champion_version="v1" if champion else None,
    )  # fmt: skip
    judged = slice_row(
        slice_value, 9503, 0.7284, low=0.7192, high=0.7376, champion_score=0.7229, difference=0.0055,
        difference_low=0.0012, difference_high=0.0098, difference_standard_error=0.0022, clusters=28,
    )  # fmt: skip
    small = slice_row("HA", 98, None, clusters=None, unit=None, is_judged=False, reason="98 rows; 200 are needed")
    curves = pl.DataFrame(
        {"curve": ["roc"] * 3, "x": [0.0, 0.3, 1.0], "y": [0.0, 0.6, 1.0], "threshold": [None, 0.5, 0.0]}
    )
    bins = pl.DataFrame(
        {"bin": [0], "rows": [52431], "score_mean": [0.246], "truth_mean": [0.251], "low": [0.247], "high": [0.255]}
    )
    return Evaluation(summary, pl.DataFrame([judged, small], schema=SLICES_SCHEMA), curves, bins)


def promotion(action: str = "promote", reasons: tuple[str, ...] = ("ROC AUC is above shallow tree.",)) -> Promotion:
    return record(
        Promotion, number=7, action=action, champion="v1" if action == "reject" else "v2", challenger="v2",
        reasons=reasons, figures={"margin": 0.005, "attempt": 1.0, "rows": 12_000.0},
        decided_at=datetime(2014, 1, 1, 4, 12, tzinfo=UTC),
    )  # fmt: skip


def drift_day(day: int = 31, psi: float = 0.092) -> DriftSummary:
    at = date(2013, 12, day)
    sentence = f"Weighted excess PSI {psi} on {at} is over 0.09."
    return record(DriftSummary, day=at, first_day=at, weighted_excess_psi=psi, is_over=True, sentence=sentence)


def drift() -> Drift:
    table = pl.DataFrame(
        {
            "feature": ["score", "wind_gust"],
            "kind": ["score", "numeric"],
            "excess_psi": [0.05, 0.41],
            "weight": [None, 1.0],
            "weighted_excess_psi": [None, 0.092],
            "is_over": [False, True],
        }
    )
    return Drift(table, drift_day())


def performance_day(day: int) -> PerformanceSummary:
    return record(
        PerformanceSummary, day=date(2013, 12, day), predictions=912, labelled=887,
        measured={"roc_auc": Interval(value=0.7 + day / 1000, low=0.6 + day / 1000, high=0.8 + day / 1000)},
        expected_labelled={"roc_auc": 0.7353},
    )  # fmt: skip


def card(**changes: object) -> CardInput:
    full: dict[str, object] = {
        "name": "late", "task": "binary", "target": "is_late", "version": "v2", "description": "Will it be late?",
        "owner": "team:ops", "intended_use": "Placing staff.", "limits": ("Three airports only.",),
        "as_of": date(2013, 12, 31), "tables": (CardTable("features", "features", rows=336776),), "leaks": findings(),
        "training_set": training_set(), "model": model(), "importances": importances(),
        "model_importances": importances().table, "tuning": tuning(), "evaluation": evaluation(),
        "promotion": promotion(), "champions": (promotion(),), "serving": "v2", "drift": drift(),
        "drift_history": (drift_day(30, 0.05), drift_day()),
        "performance": tuple(performance_day(day) for day in range(5, 25)),
        "test_score": (ScoreLine("data", "A schema", 1, "27 rules"), ScoreLine("model", "Reproducible", 0.5, "hash")),
        "versions": {"model": "v2", "training_set": "t1"},
        "making": Making(commit="3f1c0de", is_dirty=True, run_id="run-1", seconds=12.34, peak_memory_bytes=700 * 2**20),
        "written_at": datetime(2014, 1, 1, 4, 15, tzinfo=UTC),
    }  # fmt: skip
    return CardInput(**full | changes)  # type: ignore[arg-type]


def lean(**changes: object) -> CardInput:
    """A card without plots, which take most of the time."""
    none = {"importances": None, "tuning": None, "evaluation": None, "drift": None, "drift_history": ()}
    return card(**{**none, "performance": (), **changes})


def bare() -> CardInput:
    return CardInput(name="late", task="binary", target="is_late")


unrendered = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def page(rendered: None) -> str:
    return render_card(card())


@unrendered
@pytest.mark.parametrize("given", [bare(), lean(evaluation=evaluation(champion=None), model=None)])
def test_the_page_is_balanced_has_all_sections_and_unique_ids(page: str, given: CardInput) -> None:
    for seen in (Page(page), Page(render_card(given))):
        assert seen.open == []
        assert len(seen.ids) == len(set(seen.ids))
        assert [each for each in seen.ids if each in dict(SECTIONS)] == [each for each, _ in SECTIONS]
        assert [f"#{each}" for each, _ in SECTIONS] == seen.references[: len(SECTIONS)]


def test_the_page_refers_to_nothing_outside_and_runs_only_the_script_that_its_policy_names(page: str) -> None:
    seen = Page(page)

    (script,) = seen.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert {"link", "iframe", "object", "embed", "img"}.isdisjoint(seen.tags)
    assert all(reference.removeprefix("#") in seen.ids for reference in seen.references)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "@import" not in page
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert "default-src 'none'" in html.unescape(page)


def test_the_same_input_gives_the_same_page() -> None:
    assert render_card(lean()) == render_card(lean())


def test_every_text_is_escaped() -> None:
    evil = lean(
        name="late", description=EVIL, owner=EVIL, intended_use=EVIL, limits=(EVIL,),
        tables=(CardTable(EVIL, EVIL, EVIL),), training_set=training_set(feature=EVIL, excluded_rows={EVIL: 1}),
        importances=importances(feature=EVIL), evaluation=evaluation(slice_value=EVIL),
        promotion=promotion(reasons=(EVIL,)), test_score=(ScoreLine(EVIL, EVIL, 1, EVIL),), versions={EVIL: EVIL},
        making=Making(commit=EVIL, run_id=EVIL, environment=EVIL, code_version=EVIL),
    )  # fmt: skip
    page = render_card(evil)
    seen = Page(page)

    assert EVIL not in page
    assert len(seen.scripts) == 1
    assert seen.open == []
    escaped = "top data features gate slices importances test-score versions"
    assert [] == [section for section in escaped.split() if EVIL not in seen.sections[section]]


def test_a_card_of_weighted_rows_says_what_is_weighted_and_how_much_the_rows_amount_to() -> None:
    measured = evaluation()
    weights = RowWeights(column="seats", total=104862.0, effective_rows=41207.3)
    weighted = replace(measured, summary=measured.summary.model_copy(update={"weight": weights}))

    trained = model().model_copy(update={"weight": "seats"})

    shown = " ".join(render_card(card(evaluation=weighted, model=trained)).split())

    words = "&#39;seats&#39; (a sum of 104,862; as exact as 41,207 rows of equal weight)"
    assert f"Rows are weighted by {words}: metrics, baselines, intervals, slices and calibration." in shown
    assert (
        f"{words}, on the test rows. Training, metrics, intervals and baselines are weighted; counts of rows" in shown
    )
    assert "Row weights" not in render_card(card())


def test_a_card_shows_how_many_rows_are_of_known_groups_and_the_metric_on_both_kinds() -> None:
    known = KnownGroups(
        column="customer_id",
        seen=GroupPart(rows=930, groups=120, metric=Interval(value=0.74, low=0.7, high=0.78)),
        unseen=GroupPart(rows=70, groups=30, reason="70 rows, fewer than 200"),
    )
    measured = evaluation()
    grouped = replace(measured, summary=measured.summary.model_copy(update={"known_groups": known}))

    shown = " ".join(render_card(card(evaluation=grouped)).split())

    assert "from leaving out one day at a time and one customer_id group at a time (two-way clustering)" in shown
    assert "93.0% of the test rows have a customer_id that was seen in training (120 of 150 groups)." in shown
    assert "on these rows: 0.7400 [0.7000, 0.7800]. On the others: not judged (70 rows, fewer than 200)." in shown
    assert " of 2013-11-01 to 2013-12-31, resampled by day and customer_id" == (
        measured_days(training_set(), grouped.summary)
    )
    assert "two-way" not in render_card(card())


def test_an_unmeasured_value_is_labelled_and_has_no_figure() -> None:
    page = render_card(bare())
    seen = Page(page)

    measured = """data features metrics operating champion gate slices calibration importances tuning drift performance
        test-score"""
    assert [] == [section for section in measured.split() if "Not measured yet" not in seen.sections[section]]
    assert re.findall(r"\d", " ".join(seen.sections[section] for section, _ in SECTIONS)) == []
    assert "<svg" not in page


@unrendered
@pytest.mark.parametrize(
    ("part", "section"),
    [("training_set", "data"), ("importances", "importances"), ("tuning", "tuning"), ("evaluation", "metrics"),
     ("promotion", "gate")],
)  # fmt: skip
def test_one_missing_part_leaves_the_others_standing(part: str, section: str) -> None:
    seen = Page(render_card(card(**{part: None})))
    others = {"data", "metrics", "gate", "importances", "tuning", "drift", "performance"} - {section}

    assert "Not measured yet" in seen.sections[section]
    assert all("Not measured yet" not in seen.sections[other] for other in others)


FIGURES = {
    "top": ["0.731", "95 %: [0.725, 0.738]",
            "+0.070 95 %: [0.060, 0.080], ROC AUC, 52,431 rows: this model is better",
            "Intended use Placing staff. Whom to ask team:ops", "Three airports only."],
    "about": ["246,113 rows of 2013-01-01 to 2013-09-30"],
    "data": ["336,776", "24.1 %", "cancelled 8,255"],
    "features": ["65.4 %", "0.0321", "dropped: beats noise in 1 of 3 folds",
                 "Selected: 1; dropped: 1. Shares of mean |SHAP| and permutation importance are those of this model",
                 "carrier (2); an unseen one is treated as missing"],
    "metrics": ["0.731 [0.725, 0.738]", "0.162 [0.159, 0.164]", "0.662", "+0.070 [0.060, 0.080]"],
    "champion": ["this model is better in ROC AUC"],
    "gate": ["Entry 7 of the promotion log, decided 2014-01-01 04:12 UTC by gate",
             "margin 0.005 attempt 1 rows 12,000", "ROC AUC is above shallow tree."],
    "slices": ["0.728 [0.719, 0.738]", "+0.0055 [0.0012, 0.0098] yes, on 28 days", "no: 98 rows; 200 are needed"],
    "calibration": ["0.251 [0.247, 0.255]", "share of positives): −0.005 (no interval)"],
    "history": ["7 2014-01-01 04:12 UTC promote v2 gate"],
    "call": ["ml-assets predict late --input FILE", "ml-assets serve late"],
    "importances": ["validation ROC AUC of 0.741 on 5,000 rows (no interval)",
                    "measured on at most 5,000 of 41,893 validation rows, drawn at random, with 2 shuffles"],
    "tuning": ["0.744 (no interval; the figure is optimistic, because", "0.08312"],
    "drift": ["Weighted excess PSI 0.092 on 2013-12-31 is over 0.09."],
    "performance": ["2013-12-24 912 887 0.724 [0.624, 0.824] 0.735"],
    "test-score": ["27 rules", "The score is the minimum of its four groups: 0.5 ("],
    "versions": ["3f1c0de, with uncommitted changes", "12.3 s", "700 MiB", "training_set t1", "0.0831235"],
}  # fmt: skip


def test_figures_are_those_of_the_inputs(page: str) -> None:
    shown = Page(page).sections

    assert {} == {name: lost for name, it in FIGURES.items() if (lost := [one for one in it if one not in shown[name]])}


@unrendered
def test_a_metric_within_days_is_shown_next_to_the_one_over_all_rows_and_with_the_operating_point() -> None:
    whole = evaluation()
    name = "roc_auc within day"
    summary = whole.summary.model_copy(
        update={
            "metric": name,
            "metrics": {
                **whole.summary.metrics,
                name: Interval(value=0.6741, low=0.667, high=0.6812),
                "lift": Interval(value=2.151, low=2.09, high=2.21),
            },
            "groups": GroupCount(column="day", measured=60, undefined=1),
            "operating_point": OperatingPoint(top_share=0.1, within="day"),
        }
    )

    within = replace(whole, summary=summary, slices=whole.slices.with_columns(metric=pl.lit(name)))

    shown = Page(render_card(card(evaluation=within))).sections

    for text in (
        "The deciding metric is ROC AUC within day: the mean over 60 values of day, each of which counts once; 1 with",
        "Precision, recall and lift are measured on the 10 % of each day with the highest scores.",
        "ROC AUC within day ↑ 0.674 [0.667, 0.681]", "ROC AUC ↑ 0.731 [0.725, 0.738]", "Lift ↑ 2.151 [2.090, 2.210]",
    ):  # fmt: skip
        assert text in shown["metrics"]


@unrendered
@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.001, 0.01), "this model is better"),
        ((-0.01, -0.001), "this model is worse"),
        ((-0.01, 0.01), "neither is shown to be better"),
        (None, "There was no champion to compare with"),
    ],
)
def test_the_champion_is_shown_as_beaten_only_if_the_interval_excludes_zero(
    bounds: tuple[float, float] | None, words: str
) -> None:
    assert words in Page(render_card(lean(evaluation=evaluation(champion=bounds)))).sections["champion"]


@unrendered
def test_the_tile_shows_if_neither_model_is_proven_better() -> None:
    top = Page(render_card(lean(evaluation=evaluation(champion=(-0.0018, 0.0104))))).sections["top"]

    assert "Difference from the champion +0.0043 95 %: [−0.0018, 0.0104], ROC AUC, 52,431 rows: neither is shown" in top


def labelled(**changes: object) -> Evaluation:
    """An evaluation of 8 rows with labels 1 1 1 0 0 0 0 0, of which the first two and the fourth are acted on."""
    whole = evaluation()
    figures = {"precision": 2 / 3, "recall": 2 / 3, "roc_auc": 0.8}
    measured = {
        "rows": 8,
        "target_mean": 3 / 8,
        "operating_point": OperatingPoint(threshold=0.5),
        "metrics": {name: Interval(value=value, low=None, high=None) for name, value in figures.items()},
    }
    return replace(whole, summary=whole.summary.model_copy(update=measured | changes))


@unrendered
def test_the_confusion_matrix_counts_the_rows_at_the_operating_point() -> None:
    labels, acted_on = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    cells = Counter(zip(labels, acted_on, strict=True))

    seen = Page(render_card(lean(evaluation=labelled()))).sections["operating"]

    assert f"Positive {cells[1, 1]} {cells[1, 0]} Negative {cells[0, 1]} {cells[0, 0]}" in seen
    assert "Predicted positive: scores of 0.5 or more." in seen


@unrendered
@pytest.mark.parametrize(
    "changes",
    [
        {"weight": RowWeights(column="seats", total=9.0, effective_rows=7.0)},
        {"metrics": {"roc_auc": Interval(value=0.8, low=None, high=None)}},
        {"rows": 9},
    ],
)
def test_a_confusion_matrix_that_does_not_follow_from_the_figures_is_not_measured(changes: dict[str, object]) -> None:
    seen = Page(render_card(lean(evaluation=labelled(**changes)))).sections["operating"]

    assert "Confusion matrix: not measured." in seen


def test_the_axis_of_the_importances_names_the_metric_over_all_rows() -> None:
    page = render_card(lean(importances=importances(), performance_metric="roc_auc within day"))

    assert "harm to ROC AUC when permuted" in page
    assert "harm to ROC AUC within day when permuted" not in page


@unrendered
def test_the_sentence_about_slices_has_the_margin_of_the_gate() -> None:
    decided = promotion()
    decided = decided.model_copy(update={"figures": {**decided.figures, "slice margin": 0.01}})
    shown = Page(render_card(lean(promotion=decided, evaluation=evaluation()))).sections["slices"]

    assert "worse than the champion by more than the slice margin of 0.01" in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Champion since entry 7, 2014-01-01"),
        ({"promotion": None}, "Not judged yet"),
        ({"promotion": promotion("reject"), "serving": "v1"}, "Rejected: the champion does not change"),
        ({"promotion": promotion("reject"), "serving": None}, "Rejected: the champion does not change"),
        ({"serving": "v3"}, "A former champion"),
        ({"promotion": promotion("request_approval"), "serving": "v1"}, "Waits for approval"),
        ({"serving": None}, "Champion since entry 7, 2014-01-01"),
    ],
)
def test_the_badge_shows_whether_the_version_is_the_champion(changes: dict[str, object], words: str) -> None:
    assert words in Page(render_card(lean(**changes))).sections["top"]


def test_the_verdict_shows_every_rule_as_a_row_in_place_of_the_reasons_and_the_cause_of_the_retraining() -> None:
    rules = (
        RuleRecord(name="rows", holds=True, sentence="Measured on 930 rows."),
        RuleRecord(name="champion", holds=False, sentence="May be worse than <v1>."),
    )
    entry = promotion("reject").model_copy(update={"rules": rules, "cause": "drift"})
    seen = Page(render_card(lean(promotion=entry))).sections["gate"]

    assert "The training was requested by drift." in seen
    assert "rows yes Measured on 930 rows. champion no May be worse than <v1>." in seen
    assert "ROC AUC is above shallow tree." not in seen


def test_challengers_in_shadow_are_a_section_only_where_they_are_declared() -> None:
    difference = Interval(value=0.0123, low=0.004, high=0.0206)
    comparison = Comparison(
        against="champion", metric="roc_auc", challenger=0.71, other=0.6977, difference=difference, rows=1234,
        clusters=14,
    )  # fmt: skip
    found = [
        ShadowedChallenger(
            version="b" * 32, verdict="better", sentence="Is not worse.", scored_days=14, comparison=comparison,
            refused=("It is too large.",),
        ),
        ShadowedChallenger(version="c" * 32, verdict="not judged", sentence="Too few days.", scored_days=3),
    ]  # fmt: skip
    report = Shadow(
        model="late", champion="v1", days=14, sentence="In shadow: b, c.", challengers=tuple(found), promoted=None
    )

    seen = Page(render_card(lean(shadow=report))).sections["shadow"]

    assert "bbbbbbbbbbbb better 14 1,234 0.710 0.698 +0.012" in seen
    assert "Is not worse. The gate does not promote it: It is too large." in seen
    assert "cccccccccccc not judged 3 not measured" in seen
    assert "cccccccccccc : Too few days." in seen
    assert "shadow" not in Page(render_card(lean())).sections


def test_an_entry_that_follows_from_a_comparison_in_shadow_says_so() -> None:
    entry = promotion("promote").model_copy(update={"cause": "shadow"})

    seen = Page(render_card(lean(promotion=entry))).sections["gate"]

    assert "It was judged again by its comparison in shadow." in seen
    assert "was requested by" not in seen


def test_only_the_last_fortnight_of_performance_is_listed(page: str) -> None:
    listed = Page(page).sections["performance"].partition("The last days")[2]

    assert re.findall(r"2013-12-(\d\d)", listed) == [f"{day:02d}" for day in range(11, 25)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            findings(),
            "No leak was found in 1,234 rows; 2 prediction times on 2 days miss a leak that shows at a share of times",
        ),
        (findings(proven=("column 'kg' knows.",)), "not known at their prediction time: column 'kg' knows."),
        (findings(suspects=(LonePredictor("kg", 0.9, 0.1),)), "column 'kg' alone explains 90.0%"),
        (findings(cuts=0), "These features were not tested for leaks."),
        (None, "These features were not tested for leaks."),
    ],
)
def test_the_data_section_shows_the_results_of_the_leak_test(found: LeakFindings | None, words: str) -> None:
    assert words in Page(render_card(lean(leaks=found))).sections["data"]


def test_assumed_known_times_are_shown_separately_from_recorded_ones() -> None:
    times = (
        KnownTime(table="raw/parcels", columns=(), sql="ordered_on + interval '1 day'", is_observed=False),
        KnownTime(table="raw/parcels", columns=("kg",), sql="weighed_at", is_observed=True),
    )

    section = Page(render_card(lean(leaks=findings(known_times=times)))).sections["data"]

    assumed, observed = section.split("Observed known times")
    assert "ordered_on + interval '1 day'" in assumed.partition("Assumed known times")[2]
    assert "weighed_at" in observed


@pytest.mark.parametrize("change", [{"version": "v9"}, {"name": "early"}, {"task": "regression"}])
def test_an_evaluation_of_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"the evaluation given to the card .* expected '.*'\. Pass the evaluation"):
        render_card(card(**change))


@unrendered
def test_a_frame_without_its_columns_is_refused_by_name() -> None:
    broken = evaluation()
    broken = Evaluation(broken.summary, broken.slices.drop("difference_low"), broken.curves, broken.calibration)

    with pytest.raises(ContractError, match=r"columns 'difference_low' of artifact 'evaluation \(slices\)'"):
        render_card(card(evaluation=broken))


def test_a_cross_validation_is_shown_with_the_metric_on_single_folds() -> None:
    split = HashSplit(by="random", columns=("id",), validation_share=0.2, test_share=0, folds=3, repeats=2)
    cross = CrossValidation(
        folds=3, repeats=2, test_rows=100, train_rows=200,
        scores={"challenger": (0.5, 0.6, 0.7, 0.8, 0.9, None), "constant": (0.5,) * 6},
    )  # fmt: skip
    found = evaluation()
    summary = found.summary.model_copy(update={"split": split, "cross_validation": cross})

    shown = render_card(card(evaluation=replace(found, summary=summary)))

    assert "split at random into 3 folds, 2 times" in shown
    assert "Each fold of about\n100 rows is scored by a model of its own" in shown
    row = '<th scope="row" class="keep">this model</th><td class="n">5</td><td class="n">0.700</td>'
    assert f'{row}\n<td class="n">0.500</td><td class="n">0.900</td>\n<td class="n">0.158</td>' in shown


def test_the_measured_days_and_rows_exclude_those_that_the_model_was_trained_on() -> None:
    report = evaluation().summary.model_copy(update={"last_seen_day": date(2013, 11, 10), "excluded_rows": 9_035})

    assert " of 2013-11-11 to 2013-12-31" == measured_days(training_set(), report)
    assert " of 2013-11-01 to 2013-12-31" == measured_days(training_set(), evaluation().summary)
    assert (
        "; 9,035 rows of earlier days are excluded, because a compared model was trained or tuned on them"
        == left_out(report)
    )
    assert "" == left_out(evaluation().summary)

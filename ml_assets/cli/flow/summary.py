"""The summary of a run: rows, metrics with intervals, the gate's verdict, drift, and the path of the card.

Everything is read from the lake; nothing is measured here.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation, Interval  # fmt: skip
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance, describe_states
from ml_assets.contracts.artifacts.training import Importances, Model, TrainingSet
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.contracts.words import counted
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.days import days_by_asset, in_rows, merge_days, span_of
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.logic.monitoring.predictions import MODEL_NAME, undeclared
from ml_assets.logic.pages.card_words import left_out, test_days
from ml_assets.logic.promotion.log import anchor
from ml_assets.models.leaks import findings_behind
from ml_assets.orchestration.flow import Span
from ml_assets.orchestration.groups import COMBINED
from ml_assets.provenance.rows import rows_behind


def summarize(model: ModelDeclaration, lake: Lake, span: Span, *, seconds: float) -> dict[str, Any]:
    """Return the summary of a run as plain values."""
    name = model.name
    training_set: TrainingSet = lake.get(lake.find(f"{name}/training_set"), TrainingSet)
    evaluation: Evaluation = lake.get(lake.find(f"{name}/evaluation"), Evaluation)
    importances: Importances = lake.get(lake.find(f"{name}/importances"), Importances)
    trained: Model = lake.get(lake.find(f"{name}/model"), Model)
    entries = PromotionLog(lake, name).entries()
    last = next((it for it in reversed(entries) if it.is_verdict), None)
    days = model.days.calendar.keys(span.first, span.last)
    of_drift = lake.newest(f"{name}/drift", days)
    drift: dict[str, DailyDrift] = dict(zip(of_drift, lake.get_each([*of_drift.values()], DailyDrift), strict=True))
    performance: list[DailyPerformance] = lake.get_each(
        [*lake.newest(f"{name}/performance", days).values()], DailyPerformance
    )
    measured = [summary for one in performance for summary in one.summaries.versions]
    card = lake.find(f"{name}/card")
    leaks = findings_behind(lake, model, lake.manifest(lake.find(f"{name}/training_set")))
    first = min(window.first_day for window in training_set.summary.windows)
    read = model.days.calendar.keys(first, max(span.as_of, span.last))
    behind = rows_behind(lake, [f"{name}/features", f"{name}/labels"], read)
    return {
        "model": name,
        "as_of": str(span.as_of),
        "rows": {window.split: window.rows for window in training_set.summary.windows},
        "leaks": {
            "proven": list(leaks.proven), "suspects": [it.sentence for it in leaks.suspects],
            "sentence": leaks.sentence,
            "assumed_known_times": [it.sentence for it in leaks.known_times if not it.is_observed],
        },
        "excluded_rows": dict(training_set.summary.excluded_rows),
        "labels_without_features": training_set.summary.labels_without_features,
        "sources": {
            "rows": [dict(chain) for chain in behind.chains], "excluded_rows": behind.excluded_rows,
            "empty_days": behind.empty,
        },
        "missing_days": missing_days_of(lake, name, days, model.days.calendar),
        "features": {
            "selected": len(importances.summary.selected), "dropped": list(importances.summary.dropped),
            ("shap_share" if trained.spec.estimator is None else "permutation_share"): dict(
                sorted(trained.spec.weights.items(), key=lambda it: -it[1])
            ),
            "left_out": dict(model.features.left_out),
        },
        "tested": f"{evaluation.summary.rows:,} test rows{test_days(training_set.summary, evaluation.summary)}"
        f"{left_out(evaluation.summary)}"
        f"{'' if (weight := evaluation.summary.weight) is None else f', weighted by {weight.column!r}'}",
        "metrics": {k: v.model_dump() for k, v in evaluation.summary.metrics.items()},
        "decides": {
            "metric": evaluation.summary.metric,
            "groups": None if evaluation.summary.groups is None else evaluation.summary.groups.words,
        },
        "known_groups": None if (known := evaluation.summary.known_groups) is None else known.words,
        "operating_point": None if (point := evaluation.summary.operating_point) is None else point.words,
        "baselines": {b.name: dict(b.metrics) for b in evaluation.summary.baselines},
        "verdict": last.model_dump(mode="json") if last else None,
        "champion": last.champion if last else None,
        "anchor": anchor(entries),
        "predicted": {
            "first": days[0], "last": days[-1], "rows": sum(one.predictions + one.seen_rows for one in measured),
            "labelled": sum(one.labelled for one in measured), "learned_from": sum(one.seen_rows for one in measured),
        },
        "performance": {
            "metric": model.metric, "days": len(performance),
            "days_measured": len({one.at for one in measured if model.metric in one.metrics}),
            "labelled": sum(one.labelled for one in measured if model.metric in one.metrics),
            "last": next((one.sentence for one in reversed(measured) if model.metric in one.metrics), None),
        },
        "drift": {"days": len(days), **drift_of(drift, days, model.days.calendar)},
        "grain": model.days.grain,
        "card": f"{lake.directory(card)}/card.html",
        "lake": lake.url,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def summarize_combined(lake: Lake, model: ModelDeclaration, span: Span) -> dict[str, Any]:
    """Return how many of the rows of some days each model scored; {} if there are no combined predictions."""
    each = model.for_each
    days = model.days.calendar.keys(span.first, span.last)
    frames = lake.get_each([*lake.newest(f"{model.name}/{COMBINED}", days).values()], pl.DataFrame)
    if each is None or not frames:
        return {}
    rows = pl.concat([frame.select(MODEL_NAME, each.column) for frame in frames])
    other = undeclared(rows, each.column, each.values)
    return {
        "model": model.name,
        "combined_rows": dict(rows.group_by(MODEL_NAME).len().sort(MODEL_NAME).iter_rows()),
        "days": [days[0], days[-1]],
        "undeclared_rows": other["rows"].sum(),
    }


def combined_text(summary: Mapping[str, Any]) -> str:
    """Return the summary of combined predictions as text."""
    rows = ", ".join(f"{count:,} by {model}" for model, count in summary["combined_rows"].items())
    first, last = summary["days"]
    lines = [f"\n{summary['model']}/{COMBINED} for {first} to {last}", f"  rows         {rows}"]
    if summary["undeclared_rows"]:
        lines.append(f"               of which {summary['undeclared_rows']:,} have a value without a model of its own")
    return "\n".join(lines)


def missing_days_of(lake: Lake, model: str, days: Sequence[str], calendar: Calendar = DAILY) -> dict[str, str]:
    """Return the days that were missing among the inputs of the training set and of some days' predictions."""
    found: dict[str, str] = {}
    for stage, keys in (("training set", [""]), ("predictions", days)):
        refs = lake.newest(f"{model}/{stage.replace(' ', '_')}", keys).values()
        missing = merge_days(made.missing_days for made in lake.manifest_of_each([*refs]).values())
        found |= {stage: days_by_asset(missing, calendar)} if missing else {}
    return found


def drift_of(drift: Mapping[str, DailyDrift], days: Sequence[str], calendar: Calendar = DAILY) -> dict[str, Any]:
    """Return the drift of some days in figures. A day without a report is not judged."""
    states = {key: one.summaries.state for key, one in drift.items()}
    every = [states.get(day, "not judged") for day in days]
    summaries = [summary for one in drift.values() for summary in one.summaries.versions]
    return {
        "over": every.count("over the limits"),
        "within": every.count("within the limits"),
        "not_judged": every.count("not judged"),
        "verdict": describe_states(every, calendar.grain),
        "days_over": [day for day, state in zip(days, every, strict=True) if state == "over the limits"],
        "last": summaries[-1].sentence if summaries else None,
    }


def monitored(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about predictions, performance and drift."""
    predicted, drift, performance = summary["predicted"], summary["drift"], summary["performance"]
    if summary["champion"] is None:
        yield "  predictions  none: there is no champion yet, so drift and performance are not measured"
        return
    learned, where = predicted["learned_from"], f"for {predicted['first']} to {predicted['last']}"
    if learned and learned == predicted["rows"]:
        yield f"  predictions  {learned:,} {where}, all of rows that the model has learned from"
        yield "  performance  not measured: it needs rows that the model has not seen"
    else:
        rows = f"{predicted['rows']:,}"
        seen = f"; {learned:,} of the {rows} are rows that the model has learned from" if learned else ""
        yield f"  predictions  {rows} {where}, {predicted['labelled']:,} with a label by now{seen}"
        yield (
            f"  performance  {performance['metric']} measured on {performance['days_measured']} of "
            f"{performance['days']} {summary['grain']}s, {performance['labelled']:,} labels"
        )
        yield from _wrapped(performance["last"] or "")
    first = f"; the first over them is {drift['days_over'][0]}" if drift["days_over"] else ""
    yield f"  drift        {drift['verdict']}{first}"
    yield from _wrapped(drift["last"] or "")


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the summary as text."""
    rows = ", ".join(f"{part} {count:,}" for part, count in summary["rows"].items())
    lines = [
        *leak_lines(summary["model"], summary["leaks"]["proven"]),
        "",
        f"{summary['model']} as of {summary['as_of']}",
        "",
        f"  rows         {rows}",
        *(
            f"               left out: {count:,} {reason}"
            for reason, count in summary["excluded_rows"].items()
            if count
        ),
        *sources_lines(summary),
        *(f"  missing      {stage} built without {missing}" for stage, missing in summary["missing_days"].items()),
        *_leaks(summary["leaks"]),
        *_features(summary["features"]),
        *_wrapped(f"with 95 % intervals, on {summary['tested']}", "  metrics      "),
        *(
            f"               {name:<20} {m['value']:z.4f}  {Interval.model_validate(m).ends('z.4f')}"
            for name, m in sorted(summary["metrics"].items(), key=lambda it: it[0] != summary["decides"]["metric"])
        ),
        *_meaning(summary),
        *_baselines(summary),
    ]
    verdict = summary["verdict"]
    if verdict is None:
        lines.append("  gate         no verdict yet")
    else:
        word = {"promote": "promoted", "reject": "rejected", "rollback": "rolled back to", "request_approval": "waits"}[
            verdict["action"]
        ]
        lines.append(f"  gate         {verdict['challenger'][:12]} {word} (entry {verdict['number']})")
        lines += [line for reason in verdict["reasons"] for line in _wrapped(reason)]
        if summary["anchor"] not in (None, summary["champion"]):
            lines.append(f"               anchor {summary['anchor'][:12]}")
    lines += [*monitored(summary)]
    lines += [
        f"  card         {summary['card']}",
        f"  lake         {summary['lake']}",
        "",
        f"{summary['seconds']} s. Next:",
        *(f"  {command:<45} {purpose}" for command, purpose in _next_commands(summary)),
    ]
    return "\n".join(lines)


def _next_commands(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield three commands that a person may want after this run, each with its purpose."""
    name, verdict = summary["model"], summary["verdict"]
    if verdict is not None and verdict["action"] == "request_approval":
        yield (
            f'ml-assets promote {name} {verdict["challenger"][:12]} --why "..."',
            "promotes it in spite of the reasons",
        )
    yield "ml-assets ui", "assets, checks and plots, at http://127.0.0.1:3000"
    yield f"ml-assets explain {name}", "what the sensors wait for, and when it trains again"
    if summary["champion"] is not None:
        yield f"ml-assets champion {name}", "the champion, since when and why"
    elif verdict is not None and verdict["action"] == "reject":
        yield f"ml-assets run {name}", "again, after a change of features or of the declaration"


def sources_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the number of rows of each table from the sources on, rows that were left out, and days without rows."""
    if rows := summary["labels_without_features"]:
        yield f"               left out: {counted(rows, 'label')} without features"
    first = "  sources      "
    for chain in summary["sources"]["rows"]:
        yield from _wrapped(" → ".join(f"{asset} {rows:,}" for asset, rows in chain.items()), first)
        first = " " * 15
    for asset, reasons in summary["sources"]["excluded_rows"].items():
        counts = ", ".join(f"{rows:,} {reason}" for reason, rows in reasons.items() if rows)
        yield from _wrapped(f"left out of {asset}: {counts}")
    for asset, days in summary["sources"]["empty_days"].items():
        spans = ", ".join(span_of(row) for row in in_rows(days, calendar=Calendar(summary["grain"])))
        yield from _wrapped(f"{asset} has no rows on {counted(len(days), summary['grain'])}: {spans}")


def _meaning(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield which metric decides, the rows that precision, recall and lift are about, and those of known groups."""
    decides, point = summary["decides"], summary["operating_point"]
    groups = f", {decides['groups']}" if decides["groups"] else ""
    yield from _wrapped(f"{decides['metric']} decides{groups}")
    if point:
        yield from _wrapped(f"precision, recall and lift: of {point}")
    yield from _wrapped(summary["known_groups"] or "")


def _baselines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the deciding metric of the baselines."""
    decides = summary["decides"]["metric"]
    each = ", ".join(f"{name} {metrics[decides]:z.4f}" for name, metrics in summary["baselines"].items())
    yield from _wrapped(f"{decides} of {each}", "  baselines    ") if each else ()


def leak_lines(model: str, proven: Sequence[str], printed: Sequence[str] = ()) -> list[str]:
    """Return the first lines of the summary if leaks are proven, which block training and promotion.

    Args:
        model: the model.
        proven: the leaks, as sentences.
        printed: the errors that the run has printed. Leaks in them are not printed again.
    """
    if not proven:
        return []
    otherwise = f"If it does not cover them: `ml-assets leaktest {model}`."
    count = counted(len(proven), "proven leak")
    return [
        f"LEAK: {model} has {count}; nothing is published or promoted.",
        *(f"- {it}" for it in proven if not any(it in error for error in printed)),
        f"Correct the tables or the known times and run again; the run tests these days again. {otherwise}",
    ]


def _leaks(leaks: Mapping[str, Any]) -> Iterator[str]:
    """Yield the leak test's verdict, suspects, and the number of known times that cannot be tested."""
    if not leaks["proven"]:
        yield from _wrapped(leaks["sentence"], "  leaks        ")
    for suspect in leaks["suspects"]:
        yield from _wrapped(f"Suspect, a person must decide: {suspect}")
    if count := len(leaks["assumed_known_times"]):
        is_assumed = "is assumed and cannot be tested; the card shows it" if count == 1 else (
            "are assumed and cannot be tested; the card lists them"
        )  # fmt: skip
        yield from _wrapped(f"{counted(count, 'known time')} {is_assumed}.")


def _features(features: Mapping[str, Any]) -> Iterator[str]:
    """Yield the number of selected features, and the most important ones."""
    yield f"  features     {features['selected']} selected, {len(features['dropped'])} dropped"
    for figure, of in (("shap_share", "mean |SHAP|"), ("permutation_share", "permutation importance")):
        first = ", ".join(f"{name} {share:.0%}" for name, share in [*features.get(figure, {}).items()][:5])
        yield from _wrapped(f"largest shares of {of}: {first}" if first else "")
    for column, reason in features["left_out"].items():
        yield from _wrapped(f"left out: {column}, {reason}")


def _wrapped(sentence: str, first: str = " " * 15) -> list[str]:
    """Return a sentence in lines of at most 120 characters under the second column."""
    indent = " " * 15
    return textwrap.wrap(sentence, 120, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)

"""The ML work of one model as a plain script: no Dagster, no lake, no manifests; what `benchmarks.overhead` measures.

Reading raw data and building features stays out; their files are given.
"""

import argparse
import hashlib
import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.features import FeaturesFrom
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import read_all
from ml_assets.logic.evaluation.report import EvaluationPlan, Opponent, evaluate
from ml_assets.logic.monitoring.drift import Watched, measure_drift
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Pooled
from ml_assets.logic.monitoring.performance import measure_performance
from ml_assets.logic.monitoring.predictions import score_rows
from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.monitoring.sketch import sketch_reference
from ml_assets.logic.plots.evaluation import evaluation_plots
from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot, performance_plot
from ml_assets.logic.plots.training import importance_plot, selection_plot, tuning_plot
from ml_assets.logic.promotion.gate import GateLimits, judge
from ml_assets.logic.tables.training_set import assemble_training_set, windows_as_of
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.importances import ImportanceBudget, measure_importances
from ml_assets.logic.training.model import fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Do the work on the files that a JSON file names, write the results to a folder, print the model's hash."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("files", type=Path, help="JSON: features and labels, each a file by day")
    parser.add_argument("out", type=Path, help="folder for the results")
    arguments = parser.parse_args()
    declared = read_all(ROOT / "defs").model(arguments.model)
    manifest = json.loads((ROOT / "dbt_project" / "target" / "manifest.json").read_bytes())
    table = contracts_from_dbt(manifest)[declared.features.table]
    files: dict[str, dict[str, str]] = json.loads(arguments.files.read_text(encoding="utf-8"))
    as_of = date.fromisoformat(max(files["features"]))
    booster = work(declared, chosen(declared.features, table), files, as_of, arguments.out)
    print(hashlib.blake2b(booster.encode(), digest_size=16).hexdigest())


def chosen(wanted: FeaturesFrom, table: TableContract) -> tuple[Feature, ...]:
    """Return the model's features, in the order of their table's contract."""
    return tuple(
        Feature(
            name=c.name, dtype=str(c.dtype), is_categorical=c.is_categorical, unit=c.unit, description=c.description
        )
        for c in table.columns
        if (c.name in wanted.columns if wanted.columns is not None else c.role == "feature")
        and c.name not in wanted.exclude
    )


def work(
    declared: ModelDeclaration,
    features: tuple[Feature, ...],
    files: dict[str, dict[str, str]],
    as_of: date,
    out: Path,
) -> str:
    """Train, evaluate, predict and watch; return the model's text."""
    key, threads = declared.features.key, declared.training.threads
    conditions = Conditions(declared.seed, threads, declared.training.device)
    columns = ModelColumns(
        declared.name, declared.task, declared.labels.target, key, declared.features.event_time,
        declared.features.prediction_time, declared.labels.known_time, features,
    )  # fmt: skip
    data = assemble_training_set(
        pl.scan_parquet([*files["features"].values()], glob=False),
        pl.scan_parquet([*files["labels"].values()], glob=False),
        columns,
        windows_as_of(as_of, **declared.split.model_dump()),
    )
    data.rows.write_parquet(out / "training_set.parquet")

    importances = measure_importances(
        data,
        declared.overall_metric,
        conditions,
        ImportanceBudget(rows=declared.importances.rows, folds=declared.importances.folds),
    )
    selection_plot(importances)
    importances.table.write_parquet(out / "importances.parquet")

    tuning = tune(
        data,
        Search(
            features=importances.summary.selected,
            metric=declared.tuning_metric,
            trials=declared.tuning.trials,
            seed=declared.seed,
            threads=threads,
            device=declared.training.device,
            fixed=declared.tuning.fixed,
            rounds=declared.tuning.max_rounds,
            early_stopping_rounds=declared.tuning.early_stopping_rounds,
        ),
    )
    tuning_plot(tuning)
    tuning.trials.write_parquet(out / "trials.parquet")

    model = fit(data, tuning.best, conditions, unseen_categories=declared.training.unseen_categories)
    train = data.part("train")
    scores = predict(model, train, threads=threads)
    model = replace(model, importances=explain(model, data, conditions))
    own = permuted(model, data, declared.overall_metric, conditions)
    importance_plot(own, declared.overall_metric)
    own.write_parquet(out / "model_importances.parquet")
    weights = dict(own.select("feature", "shap_share").iter_rows())
    reference = sketch_reference(train, features=model.spec.features, score=scores["score"], days=train["day"])
    (out / "model.txt").write_text(model.text, encoding="utf-8")
    (out / "model.json").write_text(model.spec.model_dump_json(), encoding="utf-8")
    reference.write_parquet(out / "reference.parquet")

    test = data.part("test")
    evaluation = evaluate(
        test,
        train,
        data.summary,
        Opponent("", predict(model, test, threads=threads)),
        EvaluationPlan(
            metric=declared.metric, slices=declared.evaluation.slices, baseline_rates=declared.evaluation.baselines,
            seed=declared.seed, operating_point=declared.operating_point, threads=threads,
        ),
        last_seen_day=model.spec.last_seen_day,
    )  # fmt: skip
    evaluation_plots(evaluation, classes=data.summary.classes)
    (out / "evaluation.json").write_text(evaluation.summary.model_dump_json(), encoding="utf-8")
    evaluation.slices.write_parquet(out / "slices.parquet")
    judge(
        evaluation.summary,
        GateLimits(margin=declared.gate.margin, min_rows=declared.gate.min_rows),
        slices=evaluation.slices,
    )

    days = [str(as_of - timedelta(days=n)) for n in reversed(range(declared.split.test_days))]
    rows = pl.read_parquet([files["features"][day] for day in days], glob=False)
    labels = pl.read_parquet([files["labels"][day] for day in days], glob=False)
    limits = DriftLimits(**declared.drift.model_dump())
    watched = Watched(declared.name, "", Reference.of(reference, model=declared.name), weights)
    drift, performance = [], []
    for day in days:
        part = rows.filter(pl.col("day").cast(pl.String) == day)
        scored = score_rows(
            part, predict(model, part, threads=threads), model.spec, columns, model_version="", features_version=""
        )
        scored.write_parquet(out / f"predictions-{day}.parquet")
        on = date.fromisoformat(day)
        drift.append(measure_drift(scored.unnest("features"), watched, Pooled(str(on), str(on)), limits))
        drift[-1].table.write_parquet(out / f"drift-{day}.parquet")
        performance.append(measure_performance(scored, labels, columns, day=on, metrics=declared.measured))
        (out / f"performance-{day}.json").write_text(performance[-1].summary.model_dump_json(), encoding="utf-8")
    drift_plot(drift[-1])
    drift_history_plot([one.summary for one in drift])
    performance_plot([one.summary for one in performance], declared.metric)
    return model.text


if __name__ == "__main__":
    main()

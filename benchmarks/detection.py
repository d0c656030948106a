"""Reliability of the retraining rules: false alarms on streams without drift, power on injected drift.

    python -m benchmarks.detection [--trials 100] [--apart] [--others PYTHON]

Not here: raw data and dbt. Features and labels come from a lake with a finished run of the model for the whole year.
For each month a model is trained on what was known at its start. The month is the reference, and streams are drawn from
it. Other libraries measure the same streams with their default tests, in their own environment
(`python -m venv other && other/bin/pip install evidently nannyml 'pandas<3'`). Their rule is the same: 2 of 3 days.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from benchmarks.overhead import ROOT, _inputs
from benchmarks.plain import chosen
from ml_assets.contracts.artifacts.training import TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.days import DAY
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.simulation import How
from ml_assets.declaration.reading import read_all
from ml_assets.logic.backtest.detection import (
    FIRST,
    QUIET,
    WITHIN,
    Population,
    count_false_alarms,
    draw_stream,
    measure_power,
    put_in,
)
from ml_assets.logic.backtest.injection import Injection
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.retraining import Rules
from ml_assets.logic.tables.training_set import assemble_training_set, windows_as_of
from ml_assets.logic.training.booster import load_booster, predict
from ml_assets.logic.training.booster_importances import mean_contributions
from ml_assets.logic.training.encoding import encode, to_matrix
from ml_assets.logic.training.model import fit

SPANS = {"February": (2, 2), "May": (5, 5), "September": (9, 9), "May to July": (5, 7)}
DRIFTS: tuple[tuple[str, int], ...] = (  # and the days that a slope may take first
    ("unit:origin_overdue_24h:0.1", 0),
    ("unit:*_overdue_24h:0.1", 0),
    ("unit:*delay_minutes*:0.0166667", 0),
    ("stuck:*delay_minutes*:1", 0),
    ("stuck:*delay_minutes*:0.5", 0),
    ("missing:*delay_minutes*:0.5", 0),
    ("missing:*_28d:1", 0),
    ("slope:*delay_minutes*:-0.25", 3),
    ("slope:*_overdue_24h:-0.25", 3),
    ("category:dest:0.1", 0),
    ("category:carrier:1", 0),
    ("flip:is_late:0.05", 0),
    ("flip:is_late:0.1", 0),
    ("flip:is_late:0.2", 0),
    ("flip:is_late:0.3", 0),
    ("flip:is_late:0.4", 0),
    ("prior:is_late:2", 0),
)
THEIRS = ("unit:origin_overdue_24h:0.1", "unit:*_overdue_24h:0.1", "stuck:*delay_minutes*:0.5",
          "missing:*delay_minutes*:0.5", "slope:*delay_minutes*:-0.25")  # fmt: skip
DRAWS: tuple[tuple[How, int | None], ...] = (("rows", None), ("days", None), ("days", 300), ("days", 3_000))
OTHERS = ("nannyml", "evidently")
RULES = {  # Evidently's own for a day is half of the columns; NannyML has none, it reports each alert
    "Evidently, half of columns": ("evidently", 0.5),
    "NannyML, any column": ("nannyml", 1e-9),
    "NannyML, half of columns": ("nannyml", 0.5),
}


def main() -> None:
    """Print the tables of false alarms and power."""
    arguments = _arguments()
    begun = time.monotonic()
    people = dict(_populations(arguments.lake, arguments.model, arguments.spans))
    if arguments.apart:
        people = {name: apart(population) for name, population in people.items()}
    print(f"{'false alarms in 200 days':<26}{'drawn':<7}{'rows a day':<12}{'days over':<11}{'judged':<8}"
          f"{'drift asks':<12}labels ask")  # fmt: skip
    for name, population in people.items():
        for how, rows in DRAWS:
            found = count_false_alarms(population, days=200, how=how, seed=1, rows=rows)
            print(f"{name:<26}{how:<7}{rows or 'its own':<12}{found.over:<11}{found.judged:<8}"
                  f"{found.requested_by_drift:<12}{found.requested_by_performance}", flush=True)  # fmt: skip
    print(
        f"\n{'power of ' + str(arguments.trials) + ' trials':<34}{'span':<13}{'cost':<8}{'drift':<8}{'labels':<8}either"
    )
    for text, lead in DRIFTS:
        for name, population in people.items():
            power = measure_power(population, injection(text), trials=arguments.trials, lead=lead)
            print(f"{text:<34}{name:<13}{_figure(power.cost):<8}{power.by_drift:<8}{power.by_performance:<8}"
                  f"{power.by_either}", flush=True)  # fmt: skip
    if arguments.others:
        print(f"\n{'theirs, same streams':<34}{'span':<13}{'library':<28}{'days over':<11}asks")
        for name, population in people.items():
            for line in beside_others(population, name, arguments):
                print(line, flush=True)
    print(f"{time.monotonic() - begun:.0f} s")


def _figure(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.3f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="flight_delay")
    parser.add_argument("--lake", type=Path, default=ROOT / ".lake", help="a lake with a finished run of the model")
    parser.add_argument("--trials", type=int, default=20, help="of each drift and span (default: %(default)s)")
    parser.add_argument("--spans", nargs="+", choices=list(SPANS), default=list(SPANS), help="(default: all)")
    parser.add_argument(
        "--apart", action="store_true", help="learn what is usual from every other day, and draw from the days between"
    )
    parser.add_argument("--others", metavar="PYTHON", help="an interpreter that has evidently, nannyml and pyarrow")
    parser.add_argument("--days", type=int, default=60, help="of the others' streams (default: %(default)s)")
    parser.add_argument("--their-trials", type=int, default=10, help="of each drift (default: %(default)s)")
    parser.add_argument(
        "--evidently",
        type=int,
        default=0,
        metavar="DAYS",
        help="of each stream; a day takes many seconds (default: none)",
    )
    return parser.parse_args()


def injection(text: str) -> Injection:
    """Return the injection of a line of `DRIFTS`; the trial sets its first day."""
    kind, column, size = text.split(":")
    return Injection.parse(f"{kind}:{column}:{FIRST}:{size}")


def _populations(lake: Path, model: str, spans: Sequence[str]) -> Iterator[tuple[str, Population]]:
    """Yield each span of months with a model trained on what was known when it began."""
    declared = read_all(ROOT / "defs").model(model)
    manifest = json.loads((ROOT / "dbt_project" / "target" / "manifest.json").read_bytes())
    columns = chosen(declared.features, contracts_from_dbt(manifest)[declared.features.table])
    files = _inputs(lake, model)
    features, labels = (
        pl.concat(
            [
                pl.read_parquet(file).with_columns(pl.lit(date.fromisoformat(day)).alias(DAY))
                for day, file in sorted(files[name].items())
            ],
            how="diagonal_relaxed",
        )
        for name in ("features", "labels")
    )
    key, target, known = declared.features.key, declared.labels.target, declared.labels.known_time
    truth = labels.sort(known).unique(key, keep="last").select(*key, pl.col(target).cast(pl.Int8))
    of_model = ModelColumns(
        model, declared.task, target, key, declared.features.event_time, declared.features.prediction_time, known,
        tuple(columns),
    )  # fmt: skip
    for name in spans:
        first, last = SPANS[name]
        windows = windows_as_of(date(2013, first, 1), train_days=None, validation_days=7, test_days=1)
        data = assemble_training_set(features, labels, of_model, windows)
        given = TunedParameters(
            metric=declared.metric, value=0.0, rounds=80, parameters={"num_leaves": 31, "learning_rate": 0.1}, trials=0,
            pruned=0, features=tuple(column.name for column in columns),
        )  # fmt: skip
        fitted = fit(data, given, Conditions(seed=1))
        spec = fitted.spec
        sample = encode(data.part("train").gather_every(20), spec.features, spec.vocabularies, "missing")
        shares = mean_contributions(load_booster(fitted), to_matrix(sample), threads=2)
        rows = features.filter(pl.col(DAY).dt.month().is_between(first, last))
        settings = declared.retraining.model_dump(include=set(Rules.__dataclass_fields__))
        yield (
            name,
            Population(
                rows=rows.join(truth, on=key, how="left", maintain_order="left").select(
                    DAY, target, *[feature.name for feature in spec.features]
                ),
                target=target,
                features=spec.features,
                weights={feature.name: share for feature, share in zip(spec.features, shares.tolist(), strict=True)},
                score=lambda frame, fitted=fitted: predict(fitted, frame)["score"],  # type: ignore[misc]
                metric=find_metric(declared.metric, declared.task),
                limits=DriftLimits(**declared.drift.model_dump()),
                rules=Rules(**settings),
            ),
        )


def apart(population: Population) -> Population:
    """Return a population whose reference are its odd days, and whose streams are drawn from the even ones."""
    place = pl.col(DAY).rank("dense") % 2
    known, drawn = (population.rows.filter(place == part) for part in (1, 0))
    return replace(population, rows=drawn, reference=known)


def beside_others(population: Population, name: str, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the results of the other libraries on quiet and on drifted streams."""
    streams: dict[str, list[pl.DataFrame]] = {
        f"none, by {how}": [draw_stream(population, arguments.days, how=how, seed=1)] for how in _hows()
    }
    for text in THEIRS:
        lead = dict(DRIFTS)[text]
        what = injection(text)
        first = FIRST + timedelta(days=QUIET)
        streams[text] = [
            put_in(
                population,
                draw_stream(population, QUIET + lead + WITHIN, how="days", seed=seed),
                Injection(what.kind, what.column, first, what.size, seed),
            )
            for seed in range(arguments.their_trials)
        ]
    requests = _requests_of_others(population, streams, arguments.others, evidently_days=arguments.evidently)
    for text in streams:
        for rule, (library, share) in RULES.items():
            if library not in requests:
                continue
            found = [[each >= share for each in trial] for trial in requests[library][text]]
            over = f"{sum(map(sum, found))} of {sum(map(len, found))}"
            caught = sum(any(_requests(trial)[QUIET:]) for trial in found)
            result = f"{caught} of {len(found)} trials" if text in THEIRS else f"{sum(_requests(found[0]))}"
            yield f"{text:<34}{name:<13}{rule:<28}{over:<11}{result}"


def _hows() -> tuple[How, ...]:
    return ("rows", "days")


def _requests(over: Sequence[bool]) -> list[bool]:
    return [sum(over[max(0, number - 2) : number + 1]) >= 2 for number in range(len(over))]


def _requests_of_others(
    population: Population, streams: Mapping[str, Sequence[pl.DataFrame]], python: str, *, evidently_days: int
) -> dict[str, dict[str, list[list[float]]]]:
    """Return by library and stream the share of columns they find drifted each day."""
    names = [feature.name for feature in population.features]
    with tempfile.TemporaryDirectory(prefix="detection-") as folder:
        here = Path(folder)
        population.scored.select(DAY, *names).write_parquet(here / "reference.parquet")
        days = [
            rows.select(pl.lit(text).alias("stream"), pl.lit(number).alias("trial"), DAY, *names)
            for text, trials in streams.items()
            for number, rows in enumerate(trials)
        ]
        pl.concat(days).write_parquet(here / "streams.parquet")
        kinds = {feature.name: feature.is_categorical for feature in population.features}
        (here / "columns.json").write_text(json.dumps(kinds), encoding="utf-8")
        quiet = os.environ | {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
        found = {}
        for library in OTHERS if evidently_days else OTHERS[:1]:
            if library == "evidently":  # last: NannyML has seen everything
                first = FIRST + timedelta(days=evidently_days)
                few = pl.concat(days).filter(pl.col(DAY) < first, pl.col("trial") == 0)
                few.write_parquet(here / "streams.parquet")
            command = [python, str(Path(__file__).with_name("detection_by_others.py")), library, folder]
            done = subprocess.run(command, env=quiet, check=False, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{library} failed:\n{done.stdout}{done.stderr}")
            found[library] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()

"""Two sides of `benchmarks.detection`: the share of columns that Evidently's and NannyML's default tests find drifted.

Nothing of this project is imported. Evidently: the data drift preset. NannyML: univariate drift by Jensen-Shannon, with
thresholds from the days of the reference. A column without any value on a day is left out of it: Evidently stops there.

    other/bin/python benchmarks/detection_by_others.py evidently|nannyml FOLDER
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.simplefilter("ignore")  # theirs, of other libraries' next versions

import pandas as pd  # noqa: E402 - after the filter

Judge = Callable[[pd.DataFrame], list[float]]


def main() -> None:
    """Judge every day of every stream, and print the shares."""
    library, folder = sys.argv[1], Path(sys.argv[2])
    kinds = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    reference, streams = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "streams"))
    for frame in (reference, streams):
        for name, is_categorical in kinds.items():
            frame[name] = frame[name].astype("object" if is_categorical else "float64")
    judge = {"evidently": evidently, "nannyml": nannyml}[library](reference, kinds)
    found: dict[str, list[list[float]]] = {}
    for (stream, _), rows in streams.groupby(["stream", "trial"], sort=False):
        found.setdefault(stream, []).append(judge(rows))
    print(json.dumps(found))


def evidently(reference: pd.DataFrame, kinds: dict[str, bool]) -> Judge:
    """Return what judges the days of a stream by the data drift preset."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    def share(day: pd.DataFrame) -> float:
        there = [name for name in kinds if day[name].notna().any()]
        definition = DataDefinition(
            numerical_columns=[name for name in there if not kinds[name]],
            categorical_columns=[name for name in there if kinds[name]],
        )
        seen, known = (
            Dataset.from_pandas(frame[there].reset_index(drop=True), data_definition=definition)
            for frame in (day, reference)
        )
        metrics = Report([DataDriftPreset()]).run(seen, known).dict()["metrics"]
        return float(next(m["value"]["share"] for m in metrics if "DriftedColumnsCount" in m["metric_name"]))

    return lambda rows: [share(day) for _, day in rows.groupby("day")]


def nannyml(reference: pd.DataFrame, kinds: dict[str, bool]) -> Judge:
    """Return what judges the days of a stream by univariate drift, a chunk a day."""
    import nannyml as nml

    calculator = nml.UnivariateDriftCalculator(
        column_names=list(kinds),
        treat_as_categorical=[name for name, is_categorical in kinds.items() if is_categorical],
        timestamp_column_name="day",
        chunk_period="D",
    ).fit(reference.assign(day=pd.to_datetime(reference["day"])))

    def shares(rows: pd.DataFrame) -> list[float]:
        measured = calculator.calculate(rows.assign(day=pd.to_datetime(rows["day"]))).filter(period="analysis")
        table = measured.to_df(multilevel=True)
        alerts = table.loc[:, [column for column in table.columns if column[-1] == "alert"]]
        return [float(share) for share in alerts.mean(axis=1)]

    return shares


if __name__ == "__main__":
    main()

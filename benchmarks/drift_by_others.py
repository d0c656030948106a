"""Two sides of `benchmarks.drift`: Evidently's and NannyML's own drift, in an environment that has them.

Nothing of this project is imported. Each library reads both Parquet files, as neither keeps a reference of its own.

    other/bin/python benchmarks/drift_by_others.py evidently|nannyml FOLDER
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.simplefilter("ignore")  # theirs, of other libraries' next versions

import pandas as pd  # noqa: E402 - after the filter


def main() -> None:
    """Measure once and print what it took."""
    library, folder = sys.argv[1], Path(sys.argv[2])
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    work = {"evidently": evidently, "nannyml": nannyml}[library](folder, columns["numeric"], columns["categorical"])
    start, cpu = time.perf_counter(), time.process_time()
    measured = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if measured < len(columns["numeric"]) + len(columns["categorical"]):
        sys.exit(f"{library} measured {measured} columns")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "megabytes": megabytes}))


def evidently(folder: Path, numeric: list[str], categorical: list[str]) -> Callable[[], int]:
    """Return the data drift preset with the tests it chooses itself."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)

    def work() -> int:
        reference, day = (
            Dataset.from_pandas(pd.read_parquet(folder / f"{name}.parquet"), data_definition=definition)
            for name in ("reference", "day")
        )
        snapshot = Report([DataDriftPreset()]).run(day, reference)
        return sum("column" in metric.get("config", {}) for metric in snapshot.dict()["metrics"])

    return work


def nannyml(folder: Path, numeric: list[str], categorical: list[str]) -> Callable[[], int]:
    """Return the univariate drift of one chunk by the statistics that ours has."""
    import nannyml as nml

    def work() -> int:
        reference, day = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "day"))
        calculator = nml.UnivariateDriftCalculator(
            column_names=numeric + categorical,
            treat_as_categorical=categorical,
            continuous_methods=["jensen_shannon", "kolmogorov_smirnov", "wasserstein"],
            categorical_methods=["jensen_shannon", "l_infinity"],
            chunk_number=1,
        )
        measured = calculator.fit(reference).calculate(day).to_df(multilevel=True)
        return len(set(measured.columns.get_level_values(0)) - {"chunk"})

    return work


if __name__ == "__main__":
    main()

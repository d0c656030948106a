"""One side of `benchmarks.contracts`: pandera's own validation of a pandas frame, in an environment that has pandas.

Reading the file is not counted, to pandera's favour. Nothing of this project is imported.

    other/bin/python benchmarks/pandera_on_pandas.py FOLDER
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pandera.pandas as pa


def main() -> None:
    """Validate once and print what it took."""
    folder = Path(sys.argv[1])
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    columns = {}
    for column in contract["columns"]:
        checks = []
        if column["accepted_values"] is not None:
            checks.append(pa.Check.isin(column["accepted_values"]))
        if column["minimum"] is not None:
            checks.append(pa.Check.ge(column["minimum"]))
        if column["maximum"] is not None:
            checks.append(pa.Check.le(column["maximum"]))
        if column["relationship"] is not None:
            there = pd.read_parquet(folder / f"{column['relationship']['table']}.parquet")
            checks.append(pa.Check.isin(there[column["relationship"]["column"]].tolist()))
        columns[column["name"]] = pa.Column(None, checks, nullable=column["is_nullable"])
    schema = pa.DataFrameSchema(columns, unique=contract["key"], strict=True)
    schema.validate(pd.read_parquet(folder / "few.parquet"), lazy=True)
    rows = pd.read_parquet(folder / "orders.parquet")
    start = time.perf_counter()
    schema.validate(rows, lazy=True)
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

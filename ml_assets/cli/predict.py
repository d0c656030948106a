"""`ml-assets predict MODEL --input FILE`: scores the rows of a file with the current champion."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    import polars as pl

_ENDINGS = (".csv", ".jsonl", ".parquet")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("predict", help="score the rows of a file with the current champion")
    command.add_argument("model", metavar="MODEL")
    command.add_argument(
        "--input", required=True, metavar="FILE", help="CSV, JSON lines or Parquet with the features; or a URL"
    )
    command.add_argument(
        "--output", metavar="FILE", help="where the scores go: .csv, .jsonl or .parquet (default: CSV, printed)"
    )
    command.add_argument("--explain", action="store_true", help="add what each feature adds to each score (SHAP)")
    command.set_defaults(function=predict_file, needs_dagster=False)


def predict_file(arguments: argparse.Namespace) -> int:
    """Print or write the scores beside the columns of the file that are no features.

    Raises:
        DataError: there is no champion, a row has no score, or a name is that of a score.
        ContractError: rows do not fulfil the contract of the features.
        SourceError: the file cannot be read.
    """
    import polars as pl

    from ml_assets.landing.rows_to_score import read_rows
    from ml_assets.notebook.champion import load_champion

    output = None if arguments.output is None else Path(arguments.output)
    if output is not None and output.suffix not in _ENDINGS:
        raise DataError(f"--output is '{output}'; expected a name that ends in {', '.join(_ENDINGS)}.")
    file = arguments.input if "://" in arguments.input else str(Path(arguments.input).absolute())
    if "://" not in file and not Path(file).is_file():
        raise DataError(f"--input is '{arguments.input}', which is no file; expected a file or a URL.")
    champion = load_champion(arguments.model)
    contract = champion.contract
    rows = read_rows(file, {column.name: column.dtype for column in contract.columns})
    scores = champion.predict(rows)
    if arguments.explain:
        scores = pl.concat([scores, champion.explain(rows)], how="horizontal")
    others = rows.select(name for name in rows.columns if name not in contract.names)
    if taken := [name for name in others.columns if name in scores.columns]:
        raise DataError(f"{arguments.input} has a column '{taken[0]}', as the scores have; rename it.")
    result = pl.concat([others, scores], how="horizontal")
    _write(result, output)
    what = "" if output is None else f", written to {output}"
    scored = f"{counted(rows.height, 'row')} scored by {arguments.model} {champion.version[:12]}{what}"
    print(scored, file=sys.stderr)
    return 0


def _write(result: "pl.DataFrame", output: Path | None) -> None:
    """Write a frame to a file, which appears when it is complete, or print it as CSV."""
    ending = ".csv" if output is None else output.suffix
    if unwritable := [name for name, dtype in result.schema.items() if not _is_writable(dtype, ending)]:
        raise DataError(
            f"column '{unwritable[0]}' is {result[unwritable[0]].dtype}, which a {ending} file cannot hold. Leave it "
            "out, or name an --output that ends in .parquet."
        )
    if output is None:
        sys.stdout.write(result.write_csv())
        return
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        match ending:
            case ".csv":
                result.write_csv(unfinished)
            case ".jsonl":
                result.write_ndjson(unfinished)
            case _:
                result.write_parquet(unfinished)
        unfinished.replace(output)
    except OSError as error:
        raise DataError(f"--output {output} cannot be written: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _is_writable(dtype: "pl.DataType", ending: str) -> bool:
    """Return whether polars writes values of a type to a file with this ending."""
    import polars as pl

    if ending == ".parquet":
        return True
    return dtype != pl.Binary and (ending == ".jsonl" or not (dtype.is_nested() or dtype == pl.Duration))

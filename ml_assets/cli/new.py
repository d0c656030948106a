"""`ml-assets new NAME --table FILE --target COLUMN`: writes a model of a table of which nothing is declared yet."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, get_args

from ml_assets.contracts.errors import ContractError, DataError, near
from ml_assets.contracts.periods import Grain
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    import polars as pl

    from ml_assets.authoring.new_model import NewModel
    from ml_assets.authoring.source import FoundTable
    from ml_assets.lake.access import Access
    from ml_assets.logic.inspection.guards import LeakFinding
    from ml_assets.logic.inspection.roles import Given, Roles

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,50}")
_DBT_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_TAKEN: Final = ("raw", "tables")
_MOST_ROWS, _STRETCHES = 50_000, 5
_LABELS: Final[Mapping[str, str]] = {
    "task": "task", "positive": "positive class", "key": "key", "time": "time of the prediction",
    "known": "row known at", "label_known": "label known at", "grain": "partition", "group": "group",
    "split": "split", "metric": "metric", "weight": "row weight",
}  # fmt: skip
_ASKED: Final = ("positive", "key", "time", "known", "label_known", "group")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("new", help="write a model of your own table, from a file")
    command.add_argument("name", metavar="NAME", help="name of the model: lower-case letters, digits and _")
    command.add_argument(
        "--table",
        metavar="FILE",
        help="a CSV, JSON, Excel or Parquet file, also packed; its URL; a folder; a pattern of files, in "
        "quotes; or the name of a dbt model",
    )
    command.add_argument("--sheet", metavar="NAME", help="sheet of an Excel workbook (default: the one with most rows)")
    command.add_argument("--target", metavar="COLUMN", help="the column to predict")
    command.add_argument(
        "--task", choices=("binary", "regression", "multiclass", "ranking"), help="default: by the target"
    )
    command.add_argument("--positive", metavar="VALUE", help="value of the target whose probability is predicted")
    command.add_argument("--key", metavar="COLUMN[,COLUMN]", help="columns that identify a row")
    command.add_argument("--time", metavar="COLUMN", help="when the prediction is made")
    command.add_argument("--known", metavar="COLUMN", help="when the row could first be known (default: --time)")
    command.add_argument("--label-known", metavar="COLUMN", help="when the target became known")
    command.add_argument("--horizon", metavar="TIME", help="when the target is known, after --time, such as 12h or 30d")
    command.add_argument(
        "--group", metavar="COLUMN", help="the person or thing that several rows belong to; of a ranking, the query"
    )
    command.add_argument("--weight", metavar="COLUMN", help="the weight of each row: a number of 0 or more")
    command.add_argument("--partition", choices=get_args(Grain), help="the rows that are stored and monitored together")
    command.add_argument("--yes", action="store_true", help="ask nothing; choose safely what is uncertain")
    command.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    command.add_argument("--undo", action="store_true", help="remove the files that `new NAME` wrote, if unchanged")
    command.set_defaults(function=new)


def new(arguments: argparse.Namespace) -> int:
    """Inspect the table, print what was found, and write the files; return 1 if files with other content are there.

    Raises:
        DataError: the table cannot be used, or a flag contradicts it. Nothing was written.
    """
    from ml_assets.authoring.written import undo
    from ml_assets.project import find_project

    root = find_project().root
    if not arguments.undo:
        return _write(_inspect(arguments, root), root, is_dry=arguments.dry_run)
    removed, changed = undo(root, arguments.name)
    print("\n".join([f"removed {counted(len(removed), 'file')}", *(f"  {path}" for path in removed)]))
    if changed:
        print("\n".join(["not removed, because they were changed since", *(f"  {path}" for path in changed)]))
    return 0


def _inspect(arguments: argparse.Namespace, root: Path) -> "NewModel":
    """Return what is to be written, after printing the evidence for it."""
    from ml_assets.authoring.columns import candidates
    from ml_assets.authoring.new_model import FOLDS, new_model
    from ml_assets.authoring.source import read_found
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.logic.inspection.codes import find_codes
    from ml_assets.logic.inspection.guards import Candidates, find_leaks
    from ml_assets.logic.inspection.preflight import Folds, preflight, too_few_rows
    from ml_assets.logic.inspection.roles import infer_roles

    _check(arguments)
    declared, target = read_declarations(), arguments.target
    grain = declared.grain if declared.models or declared.raw or declared.tables else None
    if grain and arguments.partition not in (None, grain):
        raise DataError(
            f"--partition is '{arguments.partition}', but the other declarations of the project have "
            f"'grain: {grain}'; expected the same. Write the model to a project of its own: ml-assets init"
        )
    _log(f"reading {arguments.table}")
    table = _dbt_model(arguments)
    file = arguments.table if table else _declared_path(arguments.table, root)
    table = table or read_found(file, _access(file), sheet=arguments.sheet)
    given, now = _given(arguments, grain, table), datetime.now(tz=UTC).replace(tzinfo=None)
    zone = declared.timezone
    roles = infer_roles(table.rows, target, given, now=now, timezone=zone)
    if not arguments.yes and sys.stdin.isatty():
        roles = infer_roles(table.rows, target, _asked(roles, given), now=now, timezone=zone)
    if table.dbt_model and roles.key is None:
        raise DataError(f"no columns of dbt model '{table.dbt_model}' identify a row; name them with --key A,B.")
    _print(_role_lines(table, target, roles))
    if problem := too_few_rows(roles.counted(table.rows)[target]):
        raise DataError(problem)
    names = candidates(table.rows, target, roles)
    _log(f"testing {counted(len(names), 'column')} for leaks")
    sample = _sample(table.rows, target, roles)
    time = None if roles.time is None else roles.time.value
    sampled = Candidates(sample, target, roles.kind, names, time, roles.entity, zone)
    leaks, codes = find_leaks(sampled), [*find_codes(sampled)]
    _print(_leak_lines(leaks))
    _print(f"\n{it.sentence}" for it in codes)
    model = new_model(
        arguments.name, table, target, roles, leaks, file=file, timezone=zone,
        codes=[it.column for it in codes],
    )  # fmt: skip
    folds = Folds(FOLDS, model.repeats, model.few) if model.few else None
    ready = preflight(
        table.rows, model.test_rows, target, roles, days=model.days.count, margin=model.margin, folds=folds
    )
    _print(ready.lines)
    if ready.problems:
        raise DataError("\n".join(ready.problems))
    return model


def _write(model: "NewModel", root: Path, *, is_dry: bool) -> int:
    from ml_assets.authoring.files import files_of
    from ml_assets.authoring.written import changes, existing, write
    from ml_assets.project import find_project

    place = find_project()
    defs, dbt = (PurePosixPath(it.relative_to(root).as_posix()) for it in (place.declarations, place.dbt))
    files = files_of(model, defs=defs, dbt=dbt)
    there = existing(root, files)
    if not is_dry and not there:
        write(root, model.name, files)
        _check_project(model.name, root)
        _print([f"\nwrote {counted(len(files), 'file')}", *(f"  {path}" for path in files)])
        print(f"\nNext:\n  ml-assets run {model.name}\n  ml-assets ui")
        return 0
    diff = changes(root, files)
    print(f"\n{diff}" if diff else "\nevery file is there, as it would be written")
    if not there or not diff:
        return 0
    print(
        f"{counted(len(there), 'file')} with these names exist, so nothing was written. Make the changes by hand, or "
        f"remove what was written before: ml-assets new {model.name} --undo"
    )
    return 1


def _check_project(name: str, root: Path) -> None:
    """Load the contracts and declarations with what was written; remove it if they contradict each other.

    Raises:
        DataError: they do.
    """
    from ml_assets.authoring.written import undo
    from ml_assets.cli.flow.project import prepare, read_declarations, read_table_contracts
    from ml_assets.lake.errors import WarehouseError
    from ml_assets.models.contradictions import contradictions
    from ml_assets.models.plan import ModelPlan

    _log("checking the project")
    try:
        prepare()
        declared, contracts = read_declarations(), read_table_contracts()
        ModelPlan.of(declared.model(name), contracts)
        problems = contradictions(declared, contracts)
        if problems:
            raise DataError("\n".join(problems))  # noqa: TRY301 - reported like a contract's error
    except (ContractError, DataError, WarehouseError) as error:
        undo(root, name)
        raise DataError(f"the project would have these errors, so nothing was written:\n{error}") from error


def _check(arguments: argparse.Namespace) -> None:
    name = arguments.name
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise DataError(
            f"'{name}' cannot be the name of a model; expected at most 51 lower-case letters, digits and '_', from a "
            "letter, and neither 'raw' nor 'tables'."
        )
    if missing := [f"--{flag}" for flag in ("table", "target") if not getattr(arguments, flag)]:
        raise DataError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. Use: ml-assets new {name} "
            "--table FILE --target COLUMN"
        )


def _dbt_model(arguments: argparse.Namespace) -> "FoundTable | None":
    """Return the table if it is the name of a dbt model of the project, and no file has this name.

    Raises:
        DataError: it is neither a file nor a dbt model.
    """
    from ml_assets.authoring.dbt_model import read_dbt_model
    from ml_assets.cli.flow.project import prepare, read_table_contracts
    from ml_assets.lake.resource import LakeResource

    name = arguments.table
    if "://" in name or "*" in name or Path(name).exists():
        return None
    if not _DBT_NAME.fullmatch(name):
        raise DataError(f"--table is '{name}', which does not exist; expected a file, a folder, a URL or a dbt model.")
    prepare()
    contracts = read_table_contracts()
    if name not in contracts:
        raise DataError(
            f"--table is '{name}', which is neither a file in {Path.cwd()} nor a dbt model of the project"
            f"{near(name, [*contracts])}; expected one of them."
        )
    return read_dbt_model(name, contracts, LakeResource().connect())


def _given(arguments: argparse.Namespace, grain: Grain | None, table: "FoundTable") -> "Given":
    """Return what the user stated. The grain of a project's other declarations cannot be another one."""
    from ml_assets.logic.inspection.roles import Given

    return Given(
        task=arguments.task,
        positive=arguments.positive,
        key=tuple(arguments.key.split(",")) if arguments.key else table.key,
        time=arguments.time,
        known=arguments.known,
        label_known=arguments.label_known,
        horizon=arguments.horizon,
        group=arguments.group,
        weight=arguments.weight,
        grain=grain or arguments.partition,
    )


def _asked(roles: "Roles", given: "Given") -> "Given":
    """Ask on the terminal for what is uncertain; an empty answer takes the choice."""
    for what, choice in roles.choices.items():
        if choice.confidence == "uncertain" and what in _ASKED:
            others = f" ({', '.join(choice.others)})" if choice.others else ""
            _log(f"{_LABELS[what]}: {choice.value}, because {choice.why}")
            if answer := input(f"  Enter accepts it; or write another{others}: ").strip():
                given = given.with_answer(what, answer)
    return given


def _sample(rows: "pl.DataFrame", target: str, roles: "Roles") -> "pl.DataFrame":
    """Return rows with a target, in the order of time, with the target as a model learns it.

    Of a large table, whole stretches: in single rows, no lag could be recognized.
    """
    import polars as pl

    known = rows.filter(rows[target].is_not_null())
    known = known.sort(roles.time.value) if roles.time else known
    if known.height > _MOST_ROWS:
        length = _MOST_ROWS // _STRETCHES
        starts = [n * (known.height - length) // (_STRETCHES - 1) for n in range(_STRETCHES)]
        known = pl.concat([known.slice(start, length) for start in starts])
        _log(f"on {_STRETCHES} stretches of {length:,} rows")
    return known.with_columns(roles.outcomes(known[target]))


def _access(file: str) -> "Access":
    """Return the access to S3 that landing has: that of the lake."""
    from ml_assets.lake.access import Access
    from ml_assets.lake.resource import LakeResource

    return LakeResource().connect().access if file.startswith("s3://") else Access()


def _declared_path(table: str, root: Path) -> str:
    """Return the file as the declaration names it: relative to the project if it is inside; a folder ends with '/'."""
    if "://" in table:
        return table
    path = Path(table).resolve()
    text = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return f"{text}/" if table.endswith("/") or path.is_dir() else text


def _role_lines(table: "FoundTable", target: str, roles: "Roles") -> Iterator[str]:
    from ml_assets.authoring.new_model import ROW_KEY

    rows = [
        ("rows", f"{table.rows.height:,}", counted(table.rows.width, "column"), ""),
        *_place_rows(table),
        *(("format", f"{mark} {value!r}", "every line reads with it", "sure") for mark, value in table.csv.items()),
        *(
            ("format of", f"{name}: {form}", "every value reads with it", "sure")
            for name, form in table.formats.items()
        ),
        *((f"type of {name}" if name else "numbers", "", doubt, "uncertain") for name, doubt in table.doubts.items()),
        *_missing_rows(table),
        ("target", target, f"{table.rows[target].null_count():,} missing", "given"),
        *((_LABELS[what], it.value, it.why, it.confidence) for what, it in roles.choices.items()),
    ]
    if roles.key is None:
        rows.append(
            (_LABELS["key"], ROW_KEY, "no columns identify a row; equal rows cannot be told apart", "uncertain")
        )
    return _table(("what", "choice", "evidence", "confidence"), rows)


def _missing_rows(table: "FoundTable") -> Iterator[tuple[str, str, str, str]]:
    if marks := [repr(it) for it in table.null_values if it]:
        yield "missing values", ", ".join(marks), "beside numbers, times or Booleans", "likely"


def _place_rows(table: "FoundTable") -> Iterator[tuple[str, str, str, str]]:
    if table.dbt_model:
        yield "dbt model", table.dbt_model, "its rows in the lake, with the types and the key of its contract", "sure"
    elif table.files > 1:
        yield "files", f"{table.files:,}, {table.kind}", "all have the same columns", "sure"
    elif table.kind != "CSV":
        yield "format", table.kind, "the content or the name of the file says so", "sure"
    if table.sheet is not None and table.sheet.others:
        why, confidence = table.sheet.why, "given" if table.sheet.is_given else "uncertain"
        yield "sheet", table.sheet.sheet, why, confidence
    if table.sheet is not None and table.sheet.header_row > 1:
        yield (
            "header row",
            str(table.sheet.header_row),
            "its cells are different texts, as many as rows below",
            "likely",
        )


def _leak_lines(leaks: "Sequence[LeakFinding]") -> Iterator[str]:
    if not leaks:
        yield "\nno column gives the answer away"
        return
    yield ""
    yield from _table(
        ("column", "guard", "verdict", "evidence"),
        [(it.column, it.guard, it.verdict, it.evidence) for it in leaks],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _print(lines: "Sequence[str] | Iterator[str]") -> None:
    print("\n".join(lines))


def _log(line: str) -> None:
    print(line, file=sys.stderr)

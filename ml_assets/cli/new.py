"""`ml-assets new NAME --table FILE --target COLUMN` or `--event FILE`: writes a model of a table of your own."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, cast, get_args

from ml_assets.cli.evidence import (
    LABELS,
    event_lines,
    guard_lines,
    left_out_lines,
    prediction_lines,
    role_lines,
)
from ml_assets.contracts.errors import ContractError, DataError, near
from ml_assets.contracts.periods import BY_HOUR, Grain
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    import polars as pl

    from ml_assets.authoring.new_model import NewModel
    from ml_assets.authoring.source import FoundTable
    from ml_assets.lake.access import Access
    from ml_assets.logic.inspection.candidates import LeakFinding
    from ml_assets.logic.inspection.choices import Choice, Given
    from ml_assets.logic.inspection.roles import Roles

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,50}")
_DBT_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_TAKEN: Final = ("raw", "tables")
_MOST_ROWS, _STRETCHES = 50_000, 5
_OF_TABLE: Final = (("table", "target"), ("population", "event_where"))
_OF_EVENTS: Final = (
    ("event", "horizon"), ("table", "target", "task", "positive", "known", "label_known", "group", "weight")
)  # fmt: skip
"""The flags that a model needs, and those that it does not have."""
_ASKED: Final[Mapping[str, str]] = {
    **{it: it for it in ("positive", "key", "time", "known", "label_known", "group")},
    "entity": "key", "event_time": "time",
}  # fmt: skip
"""What a person is asked for, and the flag that says the same."""


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
    command.add_argument(
        "--event",
        metavar="FILE",
        help="a table of events, such as orders, in place of --table and --target: predict whether a person or thing "
        "has another one within --horizon",
    )
    command.add_argument("--sheet", metavar="NAME", help="sheet of an Excel workbook (default: the one with most rows)")
    command.add_argument("--target", metavar="COLUMN", help="the column to predict")
    command.add_argument(
        "--task", choices=("binary", "regression", "multiclass", "ranking"), help="default: by the target"
    )
    command.add_argument(
        "--positive",
        metavar="VALUE",
        help="value of the target whose probability is predicted, or a comparison such as '>= 4'",
    )
    command.add_argument(
        "--key", metavar="COLUMN[,COLUMN]", help="columns that identify a row; of events, the person or thing"
    )
    command.add_argument("--time", metavar="COLUMN", help="when the prediction is made, or the event happened")
    command.add_argument("--known", metavar="COLUMN", help="when the row could first be known (default: --time)")
    command.add_argument("--label-known", metavar="COLUMN", help="when the target became known")
    command.add_argument("--horizon", metavar="TIME", help="when the target is known, after --time, such as 12h or 30d")
    command.add_argument(
        "--population",
        metavar="SQL",
        help="select over the table 'events': whom to predict, and when (predicted_at)",
    )
    command.add_argument("--event-where", metavar="SQL", help="which of the events are predicted (default: all)")
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
    from ml_assets.cli.flow.project import read_declarations

    _check(arguments)
    declared = read_declarations()
    grain = declared.calendar.grain if declared.models or declared.raw or declared.tables else None
    if grain and arguments.partition not in (None, grain):
        raise DataError(
            f"--partition is '{arguments.partition}', but the other declarations of the project have "
            f"'grain: {grain}'; expected the same. Write the model to a project of its own: ml-assets init"
        )
    named = arguments.event or arguments.table
    _log(f"reading {named}")
    table, file = _read(named, "--event" if arguments.event else "--table", root, sheet=arguments.sheet)
    given = _given(arguments, grain, () if arguments.event else table.key)
    for flag, name in {"--target": arguments.target, **given.columns}.items():
        if name in table.unread:
            raise DataError(
                f"{flag.partition(' ')[0]} is '{name}', which cannot be read: {table.unread[name].rstrip('.')}."
            )
    inspect = _of_events if arguments.event else _of_table
    return inspect(arguments, table, file, given, declared.timezone)


def _of_table(
    arguments: argparse.Namespace, table: "FoundTable", file: str, given: "Given", timezone: str
) -> "NewModel":
    """Return the model of a table with a target."""
    from ml_assets.authoring.new_model import new_model
    from ml_assets.logic.inspection.roles import infer_roles

    target, now = arguments.target, _now()
    roles = infer_roles(table.rows, target, given, now=now, timezone=timezone)
    if not arguments.yes and sys.stdin.isatty():
        roles = infer_roles(table.rows, target, _asked(roles.choices, given), now=now, timezone=timezone)
    if table.dbt_model and roles.key is None:
        raise DataError(f"no columns of dbt model '{table.dbt_model}' identify a row; name them with --key A,B.")
    _print(role_lines(table, target, roles))
    return _without_leaks(
        table.rows, target, roles, timezone,
        lambda leaks, codes: new_model(
            arguments.name, table, target, roles, leaks, file=file, timezone=timezone, codes=codes
        ),
    )  # fmt: skip


def _of_events(
    arguments: argparse.Namespace, found: "FoundTable", file: str, given: "Given", timezone: str
) -> "NewModel":
    """Return the model of whether a person or thing has another event."""
    from ml_assets.authoring.event_model import event_table, model_days, model_of_events, prediction_roles, within
    from ml_assets.authoring.event_sql import read_examples
    from ml_assets.authoring.horizon import Horizon
    from ml_assets.logic.inspection.event_roles import infer_event_roles

    now, horizon = _now(), Horizon.of(arguments.horizon)
    of_events = infer_event_roles(found.rows, given, now=now, row_key=found.key)
    if not arguments.yes and sys.stdin.isatty():
        given = _asked(of_events.choices, given)
        of_events = infer_event_roles(found.rows, given, now=now, row_key=found.key)
    events = event_table(
        arguments.name, file, found, of_events, horizon,
        timezone=timezone, population=arguments.population, condition=arguments.event_where,
    )  # fmt: skip
    _print(event_lines(events))
    rows = read_examples(events)
    if given.grain == BY_HOUR:
        raise DataError("--partition is 'hour', but a model of events predicts by day; give --partition day or week.")
    roles = prediction_roles(events, rows, given.grain, now=now)
    days = model_days(events, rows, cast("Grain", roles.grain.value), datetime.now(tz=UTC))
    rows = within(days, rows, events)
    _print(prediction_lines(events, rows, roles))
    return _without_leaks(
        rows,
        events.target,
        roles,
        timezone,
        lambda leaks, codes: model_of_events(events, rows, days, roles, leaks, codes=codes),
    )


def _without_leaks(
    rows: "pl.DataFrame",
    target: str,
    roles: "Roles",
    timezone: str,
    model_without: "Callable[[Sequence[LeakFinding], Sequence[str]], NewModel]",
) -> "NewModel":
    """Return the model without the columns that leak, after showing them, codes, and what its size allows.

    Raises:
        DataError: there are too few rows.
    """
    from ml_assets.authoring.columns import candidates
    from ml_assets.authoring.new_model import FOLDS
    from ml_assets.declaration.drift import DriftSettings
    from ml_assets.logic.inspection.candidates import Candidates
    from ml_assets.logic.inspection.codes import find_codes
    from ml_assets.logic.inspection.guards import find_leaks
    from ml_assets.logic.inspection.preflight import Folds, PooledRows, preflight, too_few_rows
    from ml_assets.logic.monitoring.drift_verdict import most_pooled_days

    if problem := too_few_rows(roles.counted(rows)[target]):
        raise DataError(problem)
    names = candidates(rows, target, roles)
    _log(f"testing {counted(len(names), 'column')} for leaks")
    time = None if roles.time is None else roles.time.value
    sample, stretch = _sample(rows, target, roles)
    sampled = Candidates(sample, target, roles.kind, names, time, roles.entity, timezone, stretch)
    leaks, codes = find_leaks(sampled), [*find_codes(sampled)]
    _print(guard_lines(leaks))
    _print(f"\n{it.sentence}" for it in codes)
    model = model_without(leaks, [it.column for it in codes])
    _print(left_out_lines(model, leaks))
    folds = Folds(FOLDS, model.repeats, model.few) if model.few else None
    most_days = most_pooled_days(model.days.calendar)
    drift = PooledRows(most_days, DriftSettings().min_rows) if roles.time is not None else None
    ready = preflight(
        rows, model.test_rows, target, roles,
        days=model.days.count, margin=model.margin, labelled_days=model.labelled_days, folds=folds, drift=drift,
    )  # fmt: skip
    _print(ready.lines)
    if ready.problems:
        raise DataError("\n".join(ready.problems))
    return model


def _now() -> datetime:
    return datetime.now(tz=UTC).replace(tzinfo=None)


def _read(named: str, flag: str, root: Path, *, sheet: str | None) -> "tuple[FoundTable, str]":
    """Return a table, and its file as the declaration names it."""
    from ml_assets.authoring.source import read_found

    if table := _dbt_model(named, flag):
        return table, named
    file = _declared_path(named, root)
    return read_found(file, _access(file), sheet=sheet), file


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
    needed, unused = _OF_EVENTS if arguments.event else _OF_TABLE
    if missing := [f"--{flag}" for flag in needed if not getattr(arguments, flag)]:
        usage = "--event FILE --horizon 30d" if arguments.event else "--table FILE --target COLUMN"
        raise DataError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. Use: ml-assets new {name} {usage}"
        )
    if extra := [f"--{flag.replace('_', '-')}" for flag in unused if getattr(arguments, flag)]:
        raise DataError(
            f"{' and '.join(extra)} cannot be used with{'' if arguments.event else 'out'} --event; leave "
            f"{'it' if len(extra) == 1 else 'them'} out."
        )
    _check_given(arguments)


def _check_given(arguments: argparse.Namespace) -> None:
    """Raise an error if a length of time or SQL cannot be used with any table, before one is read.

    Raises:
        DataError: it cannot.
    """
    from ml_assets.authoring.event_sql import given_condition, given_population
    from ml_assets.authoring.horizon import Horizon

    if arguments.horizon:
        Horizon.of(arguments.horizon)
    if arguments.population is not None:
        given_population(arguments.population)
    given_condition(arguments.event_where)


def _dbt_model(name: str, flag: str) -> "FoundTable | None":
    """Return the table if it is the name of a dbt model of the project, and no file has this name.

    Raises:
        DataError: it is neither a file nor a dbt model.
    """
    from ml_assets.authoring.dbt_model import read_dbt_model
    from ml_assets.cli.flow.project import prepare, read_table_contracts
    from ml_assets.lake.resource import LakeResource

    if "://" in name or "*" in name or Path(name).exists():
        return None
    if not _DBT_NAME.fullmatch(name):
        raise DataError(f"{flag} is '{name}', which does not exist; expected a file, a folder, a URL or a dbt model.")
    prepare()
    contracts = read_table_contracts()
    if name not in contracts:
        raise DataError(
            f"{flag} is '{name}', which is neither a file in {Path.cwd()} nor a dbt model of the project"
            f"{near(name, [*contracts])}; expected one of them."
        )
    return read_dbt_model(name, contracts, LakeResource().connect())


def _given(arguments: argparse.Namespace, grain: Grain | None, key: tuple[str, ...]) -> "Given":
    """Return what the user stated. The grain of a project's other declarations cannot be another one."""
    from ml_assets.logic.inspection.choices import Given

    return Given(
        task=arguments.task,
        positive=arguments.positive,
        key=tuple(arguments.key.split(",")) if arguments.key else key,
        time=arguments.time,
        known=arguments.known,
        label_known=arguments.label_known,
        horizon=arguments.horizon,
        group=arguments.group,
        weight=arguments.weight,
        grain=grain or arguments.partition,
    )


def _asked(choices: "Mapping[str, Choice]", given: "Given") -> "Given":
    """Ask on the terminal for what is uncertain; an empty answer takes the choice."""
    for what, choice in choices.items():
        if choice.confidence == "uncertain" and what in _ASKED:
            others = f" ({', '.join(choice.others)})" if choice.others else ""
            _log(f"{LABELS[what]}: {choice.value}, because {choice.why}")
            if answer := input(f"  Enter accepts it; or write another{others}: ").strip():
                given = given.with_answer(_ASKED[what], answer)
    return given


def _sample(rows: "pl.DataFrame", target: str, roles: "Roles") -> "tuple[pl.DataFrame, int]":
    """Return rows with a target, in the order of time, with the target as a model learns it, and the rows of a stretch.

    Of a large table, whole stretches: in single rows, no lag could be recognized.
    """
    import polars as pl

    known = rows.filter(rows[target].is_not_null())
    known = known.sort(roles.time.value) if roles.time else known
    length = 0
    if known.height > _MOST_ROWS:
        length = _MOST_ROWS // _STRETCHES
        starts = [n * (known.height - length) // (_STRETCHES - 1) for n in range(_STRETCHES)]
        known = pl.concat([known.slice(start, length) for start in starts])
        _log(f"on {_STRETCHES} stretches of {length:,} rows")
    return known.with_columns(roles.outcomes(known[target])), length


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


def _print(lines: "Sequence[str] | Iterator[str]") -> None:
    if text := "\n".join(lines):
        print(text)


def _log(line: str) -> None:
    print(line, file=sys.stderr)

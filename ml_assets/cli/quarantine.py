"""`ml-assets quarantine`: shows quarantined rows and rejected days, and releases rows."""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import DAILY, is_hour_key, is_key
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    import polars as pl

    from ml_assets.contracts.table import TableContract
    from ml_assets.lake.quarantine import SetAside
    from ml_assets.lake.store import Lake

_SHOWN = 20


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("quarantine", help="show quarantined rows and rejected days, and release rows")
    command.add_argument("table", nargs="?", metavar="TABLE", help="a table such as raw/orders (default: all)")
    command.add_argument(
        "day",
        nargs="?",
        metavar="DAY",
        help="show the rows of this day, or of an hour, with the rules that they break",
    )
    command.add_argument(
        "--release", action="store_true", help="release these rows: they pass unchanged from the next run on"
    )
    command.add_argument("--why", metavar="TEXT", help="the reason of the release, which is stored with it")
    command.add_argument("--by", metavar="NAME", help="who releases them (default: the user of this process)")
    command.add_argument("--rows", type=int, default=_SHOWN, metavar="N", help=f"rows to show (default {_SHOWN})")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.set_defaults(function=quarantine)


def quarantine(arguments: argparse.Namespace) -> int:
    """Print what is quarantined, or release it; return 1 if there is nothing to release.

    Raises:
        DataError: the arguments exclude each other, or the table has no quarantine.
    """
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.quarantine import set_aside
    from ml_assets.lake.resource import LakeResource

    _check(arguments)
    lake = LakeResource().connect()
    found = [*set_aside(lake, arguments.table)]
    if arguments.day is not None:
        of_the_day = {arguments.day, ""}
        if any(is_hour_key(it.partition) for it in found) and DAILY.has_form(arguments.day):
            day = DAILY.first_day(arguments.day)
            of_the_day |= {*read_declarations().calendar.keys(day, day)}
        found = [it for it in found if it.partition in of_the_day]
    if not found:
        of = "".join(f" of {it}" for it in (arguments.table, arguments.day) if it)
        print("[]" if arguments.json else f"nothing{of} is quarantined or rejected")
        return 1 if arguments.release else 0
    if arguments.release:
        return _release(lake, found, arguments)
    is_about_rows = arguments.day is not None or (arguments.table is not None and not found[0].partition)
    _show(lake, found, rows=arguments.rows if is_about_rows else 0, as_json=arguments.json)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from ml_assets.orchestration.flow import day_given

    if arguments.day is not None and not is_key(arguments.day):
        day_given(arguments.day, "DAY")
    if arguments.release and not (arguments.table and (arguments.why or "").strip()):
        raise DataError("--release needs a TABLE (and perhaps a DAY), and --why, because released rows pass unchecked.")
    if arguments.why and not arguments.release:
        raise DataError("--why is the reason of a release; add --release, or leave it out.")
    if arguments.release and arguments.table not in _declared():
        raise DataError(
            f"table '{arguments.table}' has no quarantine, so its rows would be rejected again even after a "
            "release; first declare the share of rows that may be quarantined ('quarantine')."
        )


def _declared() -> set[str]:
    """Return the tables whose declarations allow a quarantine."""
    from ml_assets.cli.flow.project import read_declarations

    declared = read_declarations()
    raw = {f"raw/{name}" for one in declared.raw for name, table in one.tables.items() if table.quarantine is not None}
    return raw | {f"tables/{name}" for one in declared.tables for name in one.quarantine}


def _release(lake: "Lake", found: "Sequence[SetAside]", arguments: argparse.Namespace) -> int:
    """Release rows that have not been released; return 1 if there are none."""
    from ml_assets.cli.author import author_of, one_line
    from ml_assets.lake.quarantine import release

    why, by, as_json = one_line(arguments.why, "--why"), author_of(arguments.by), arguments.json
    released = [(it, release(lake, it, why=why, by=by)) for it in found if not it.is_released]
    if as_json:
        answer = [
            {"table": it.table, "day": it.partition or None, "rows": manifest.rows or 0, "reason": why}
            for it, manifest in released
        ]
        print(json.dumps(answer, indent=1))
        return 0 if released else 1
    for it, manifest in released:
        which, rows = f"{it.table}{f' {it.partition}' if it.partition else ''}", manifest.rows or 0
        print(f"{which}: {counted(rows, 'row')} {'passes' if rows == 1 else 'pass'} from the next run on")
    if not released:
        print("these rows were released before; they pass from the next run on")
    return 0 if released else 1


def _show(lake: "Lake", found: "Sequence[SetAside]", *, rows: int, as_json: bool) -> None:
    """Print what is quarantined by table and day, and some rows if requested."""
    entries = [(it, it.broken(lake)) for it in found]
    records = [_record(it, broken) for it, broken in entries]
    contracts = _contracts() if rows else {}
    if as_json:
        shown = [
            {**record, "rows_shown": [*_examples(broken.head(rows), contracts.get(it.table))]} if rows else record
            for record, (it, broken) in zip(records, entries, strict=True)
        ]
        print(json.dumps(shown, indent=1, default=str))
        return
    for record, (it, broken) in zip(records, entries, strict=True):
        rules = ", ".join(f"{rule} ({count})" for rule, count in record["rules"].items()) or record["reason"]
        print(
            f"{record['table']:<28} {record['day'] or 'whole':<10}  {record['kind']:<11} {record['rows']:>7} rows "
            f"{record['share']:>8.2%}  {rules}{'; released' if record['is_released'] else ''}"
        )
        if rows:
            _print_rows(broken, contracts.get(it.table), rows)


def _record(aside: "SetAside", broken: "pl.DataFrame") -> dict[str, Any]:
    from ml_assets.logic.tables.quarantine import broken_counts

    reasons = aside.manifest.parameters.get("broken_rules")
    return {
        "table": aside.table,
        "day": aside.partition or None,
        "kind": aside.kind,
        "rows": broken.height,
        "share": round(broken.height / aside.total, 6) if aside.total else 1.0,
        "rules": dict(sorted(broken_counts(broken).items())),
        "reason": "; ".join(map(str, reasons)) if isinstance(reasons, list) else "",
        "is_released": aside.is_released,
        "created_at": aside.manifest.created_at.isoformat(timespec="seconds"),
        "version": aside.ref.version,
    }


def _contracts() -> "dict[str, TableContract]":
    """Return the contracts of all tables with quarantined rows or rejected days, by their names in the lake."""
    from ml_assets.cli.flow.project import read_declarations, read_table_contracts

    by_name = read_table_contracts()
    of_dbt = {name if "/" in name else f"tables/{name}": contract for name, contract in by_name.items()}
    models = {f"{it.name}/features": by_name.get(it.features.table) for it in read_declarations().models}
    return of_dbt | {name: contract for name, contract in models.items() if contract is not None}


def _examples(broken: "pl.DataFrame", contract: "TableContract | None") -> "Iterator[dict[str, Any]]":
    """Yield for each row the broken rules, its key and the columns of these rules, without personal values."""
    from ml_assets.contracts.checking import BROKEN_RULES, example_values

    rules = {} if contract is None else {rule.name: rule.columns for rule in contract.rules}
    for n, names in enumerate(broken[BROKEN_RULES].to_list()):
        columns = [column for name in names for column in rules.get(name, ())]
        row = {} if contract is None else example_values(broken[n], contract, columns).row(0, named=True)
        yield {BROKEN_RULES: names, **row}


def _print_rows(broken: "pl.DataFrame", contract: "TableContract | None", count: int) -> None:
    """Print rows with one value per line."""
    if contract is None:
        print("    there is no contract that marks personal values, so no values are shown")
    for row in _examples(broken.head(count), contract):
        print(f"\n    {' and '.join(row.pop('broken_rules'))}")
        for name, value in row.items():
            print(f"      {name:<30} {'-' if value is None else value}")
    if broken.height > count:
        print(f"\n    and {broken.height - count} more; --rows shows more of them")

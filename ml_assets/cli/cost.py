"""`ml-assets cost [MODEL]`: shows the cost of runs, by model, stage and month."""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    from ml_assets.provenance.cost import Row

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("cost", help="show the cost of runs, by model, month and stage")
    command.add_argument(
        "model", metavar="MODEL", nargs="?", help="only this model (default: all models and the tables)"
    )
    command.add_argument(
        "--month", metavar="MONTH", help="only runs of this month (UTC), such as 2026-11 (default: all)"
    )
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.set_defaults(function=cost)


def cost(arguments: argparse.Namespace) -> int:
    """Print the costs.

    Raises:
        DataError: the month is not valid.
    """
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.provenance.cost import rows_of, spending
    from ml_assets.provenance.prices import read_prices

    if arguments.month and not _MONTH.fullmatch(arguments.month):
        raise DataError(f"--month is '{arguments.month}'; expected the month of the runs, such as 2026-11.")
    owner = read_declarations().model(arguments.model).name if arguments.model else None
    prices = read_prices()
    lake = LakeResource().connect()
    rows = rows_of(spending(lake, owner=owner, month=arguments.month), prices)
    currency = prices.currency if prices else None
    if arguments.json:
        print(json.dumps({"lake": lake.url, "currency": currency, **_as_json(rows)}, indent=1))
    else:
        print("\n".join(cost_lines(rows, currency)))
    return 0


def _as_json(rows: "Sequence[Row]") -> dict[str, Any]:
    from ml_assets.provenance.cost import total_of

    def one(row: "Row") -> dict[str, Any]:
        hours = {"used": row.used._asdict(), "requested": row.requested._asdict(), "charged": row.charged._asdict()}
        return {
            "runs": len(row.runs), "artifacts": row.artifacts, "seconds": row.seconds, "hours": hours,
            "money": row.money, "unmeasured": row.unmeasured, "failed_attempts": row.failed,
            "failed_seconds": row.failed_seconds,
        }  # fmt: skip

    stages = [{"owner": row.owner, "month": row.month, "stage": row.stage, **one(row)} for row in rows]
    return {"stages": stages, "total": one(total_of(rows))}


def cost_lines(rows: "Sequence[Row]", currency: str | None) -> Iterator[str]:
    """Yield one table per model (or kind of tables) and month."""
    from ml_assets.provenance.cost import total_of

    if not rows:
        yield "there were no runs, so there are no costs"
        return
    groups = [(key, [*group]) for key, group in groupby(rows, key=lambda row: (row.owner, row.month))]
    total = total_of(rows)
    width = max(len(row.stage) for row in (*rows, total)) + 2
    for (owner, month), group in groups:
        yield f"{owner}  ran in {month}"
        yield _line("", ("runs", "seconds", "CPU h", "memory GiB h", "GPU h", currency or "money"), width)
        lines = group if len(group) == 1 else [*group, total_of(group)]
        yield from (_line(row.stage, _cells(row), width) for row in lines)
        yield ""
    if len(groups) > 1:
        yield "all"
        yield _line("total", _cells(total), width)
        yield ""
    if currency is None:
        yield "money is unknown: no prices are set (ML_ASSETS_PRICES)"
    elif total.money is None and total.is_measured:
        yield "money is unknown for GPUs without a price in the price table (gpu_hour)"
    if total.failed:
        failed = counted(total.failed, "attempt")
        yield f"{failed} to materialize an artifact failed, and took {total.failed_seconds:,.1f} of the seconds"
    if total.unmeasured:
        what = counted(total.unmeasured, "artifact or attempt", "artifacts and attempts")
        yield (
            f"not included, because the cost was not measured: {what} (stored in addition to a step's outputs, or by a "
            "step that was killed or still runs)"
        )


def _cells(row: "Row") -> tuple[str, ...]:
    hours = (_amount(it, 3) for it in row.charged)
    return f"{len(row.runs):,}", f"{row.seconds:,.1f}", *hours, _amount(row.money, 2)


def _amount(value: float | None, digits: int) -> str:
    """Return an amount as text. Small amounts do not appear as 0, and unknown ones appear as unknown."""
    if value is None:
        return "?"
    least = 10.0**-digits
    return f"<{least:.{digits}f}" if 0 < value < least else f"{value:,.{digits}f}"


def _line(name: str, cells: Sequence[str], width: int) -> str:
    widths = (5, 11, 9, 12, 9, 11)
    return f"  {name:<{width}}" + " ".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))

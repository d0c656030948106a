"""`ml-assets trace`: shows where an artifact or a prediction came from, and what depends on a bad day.

It reads only the lake, neither Dagster's history nor declarations, and imports nothing slow.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.provenance.tracing.trace import Trace


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("trace", help="show where an artifact came from, or what depends on it")
    command.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="a model or an artifact: orders_model, tables/orders, raw/orders@1f3a",
    )
    command.add_argument("--partition", metavar="P", help="only this partition (day) of the artifact")
    command.add_argument("--forward", action="store_true", help="show what depends on it instead of its inputs")
    command.add_argument(
        "--raw",
        nargs="+",
        metavar=("TABLE", "DAY"),
        help="show all that depends on a raw day; DAY@VERSION for one version",
    )
    command.add_argument(
        "--prediction", metavar="ID", help="a prediction by its key (values joined by /) or its complete id"
    )
    command.add_argument("--model", metavar="MODEL", help="the prediction's model (default: any)")
    command.add_argument(
        "--day", metavar="DAY", help="the prediction's day (default: search all days, which is slower)"
    )
    command.add_argument("--days", action="store_true", help="list every partition")
    command.add_argument("--html", metavar="FILE", help="write an HTML page with a graph")
    command.add_argument("--json", action="store_true", help="print everything as JSON, without grouping")
    command.set_defaults(function=trace)


def trace(arguments: argparse.Namespace) -> int:
    """Print a lineage; return 1 if a part of it is missing or damaged.

    Raises:
        DataError: the arguments exclude each other, or name something that does not exist.
        LakeError: the lake cannot be read.
    """
    _check(arguments)
    found = _artifacts(arguments) if arguments.prediction is None else _prediction(arguments)
    if arguments.html is not None:
        from ml_assets.provenance.tracing.page import render_page

        _write(arguments.html, render_page(found))
        print(f"the page is at {arguments.html}", file=sys.stderr)
    if arguments.json:
        from ml_assets.provenance.tracing.trace import as_json

        json.dump(as_json(found), sys.stdout, indent=1)
        print()
    elif arguments.html is None:
        from ml_assets.provenance.tracing.text import render_text

        sys.stdout.write(render_text(found, all_days=arguments.days))
    return 0 if found.is_whole else 1


def _check(arguments: argparse.Namespace) -> None:
    given = [name for name in ("what", "raw", "prediction") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise DataError(
            f"expected one of WHAT, --raw and --prediction, got {' and '.join(given) or 'none'}; "
            "give one of them, such as `ml-assets trace MODEL`."
        )
    if arguments.raw is not None and len(arguments.raw) > 2:
        raise DataError(f"--raw takes TABLE and DAY, got {' '.join(arguments.raw)}; name one day of one table.")
    belongs = {"partition": "what", "forward": "what", "model": "prediction", "day": "prediction"}
    for option, to in belongs.items():
        if getattr(arguments, option) and given != [to]:
            raise DataError(
                f"--{option} goes with {'WHAT' if to == 'what' else '--prediction'}, not with --{given[0]}."
            )


def _artifacts(arguments: argparse.Namespace) -> "Trace":
    from ml_assets.lake.manifests import Manifests
    from ml_assets.provenance.lineage import backward
    from ml_assets.provenance.tracing.target import Target
    from ml_assets.provenance.tracing.touched import forward
    from ml_assets.provenance.tracing.trace import TracePart, trace_of
    from ml_assets.settings import lake_url

    lake = Manifests(lake_url())
    if arguments.raw is None:
        target = Target.of(lake, arguments.what, arguments.partition, every=arguments.forward)
    else:
        table, day = (*arguments.raw, None)[:2]
        target = Target.of_raw(lake, table, day)
    if arguments.forward or arguments.raw is not None:
        part = TracePart("downstream", forward(lake, target.refs))
    else:
        part = TracePart("upstream", backward(lake, target.refs))
    return trace_of(lake, target.title, [part])


def _prediction(arguments: argparse.Namespace) -> "Trace":
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.tracing.predicted import trace_prediction
    from ml_assets.provenance.tracing.target import models_with, safe_partition
    from ml_assets.settings import lake_url

    lake = Lake(lake_url())
    models = models_with(lake, "predictions", arguments.model)
    return trace_prediction(lake, models, arguments.prediction, safe_partition(arguments.day))


def _write(file: str, page: str) -> None:
    try:
        Path(file).write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write the page to {file}: {error.strerror}. Choose another file.") from error

"""`ml-assets status`: shows the state of all models on one screen."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.automation.overview import ModelStatus, Overview

_HEADER = ("model", "champion", "as of", "predictions to", "drift", "performance", "to do", "waits")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser(
        "status", help="show all models: champion, newest days, what a person must act on, what waits, what runs next"
    )
    command.add_argument("--json", action="store_true", help="print the state as JSON")
    command.set_defaults(function=show_status)


def show_status(arguments: argparse.Namespace) -> int:
    """Print the state; return 1 if a person must act on something."""
    from ml_assets.automation.overview import read_overview
    from ml_assets.cli.flow.project import open_instance, prepare, read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.orchestration.location import Overrides, load_definitions

    declared = read_declarations()
    prepare()
    lake = LakeResource().connect()
    repository = load_definitions(Overrides()).get_repository_def()
    with open_instance() as instance:
        found = read_overview(repository, declared, lake, instance, now=datetime.now(tz=UTC))
    red = [*found.red, *(line for model in found.models for line in model.red)]
    print(json.dumps(_as_json(found), indent=1) if arguments.json else "\n".join(status_lines(found)))
    return 1 if red else 0


def _as_json(found: "Overview") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(found), default=lambda moment: moment.isoformat()))
    return content


def status_lines(found: "Overview") -> Iterator[str]:
    """Yield the lines: the lake, a table of models, what is red, what waits, the newest days, and what runs next."""
    from ml_assets.automation.overview import minute

    yield f"lake {found.lake}"
    yield ""
    yield from _table([_HEADER, *map(_row, found.models)])
    red = [*found.red, *(f"{it.model}: {line}" for it in found.models for line in it.red)]
    yield from _block("act on", red or ["nothing"])
    yield from _block("waiting", [line for it in found.models for line in it.blocked])
    yield from _block("newest rows", [f"{name}  {newest or 'none'}" for name, newest in found.tables.items()])
    ticks = [f"{minute(it.at)}  {it.schedule}" for it in found.upcoming]
    if found.has_daemon:
        yield from _block("next", ticks or ["no schedule is running"])
    else:
        yield from _block("next", ["nothing: Dagster's daemon is not running; start it with: ml-assets ui"])


def _row(model: "ModelStatus") -> tuple[str, ...]:
    if model.champion is None:
        champion = ("none", "–", model.newest["predictions"] or "none", "–", "–")
    else:
        champion = (
            model.champion[:12], model.as_of or "?", model.newest["predictions"] or "none",
            model.drift or "not judged", model.performance or "not judged",
        )  # fmt: skip
    return model.model, *champion, str(len(model.red)), str(len(model.blocked))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _block(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)

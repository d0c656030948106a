"""`ml-assets champion MODEL`: shows the current champion or that of a past day, with its entry in the promotion log."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.contracts.days import end_of, yesterday
from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.contracts.decisions import Promotion


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("champion", help="show the current champion: since when, why and by whom")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--on", metavar="DAY", help="show the champion at the end of this day (default: now)")
    command.add_argument("--json", action="store_true", help="print the answer and the promotion log as JSON")
    command.set_defaults(function=show_champion)


def show_champion(arguments: argparse.Namespace) -> int:
    """Print the champion; return 1 if there is none.

    Raises:
        DataError: the day is not a date or is in the future.
    """
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.promotion_log import PromotionLog
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import anchor, serving_since, waiting

    model = read_declarations().model(arguments.model)
    zone = model.days.timezone
    day = None if arguments.on is None else _past_day(arguments.on, zone)
    lake = LakeResource().connect()
    log = PromotionLog(lake, model.name)
    entries = [*log.verified().entries] if day is None else log.before(end_of(day, zone).replace(tzinfo=UTC))
    since, waits = serving_since(entries), waiting(entries)
    if arguments.json:
        answer = {
            "model": model.name,
            "day": None if day is None else str(day),
            "champion": None if since is None else since.champion,
            "promotion": None if since is None else since.model_dump(mode="json"),
            "anchor": anchor(entries),
            "pending": None if waits is None else waits.model_dump(mode="json"),
            "entries": [entry.model_dump(mode="json") for entry in entries],
        }
        print(json.dumps(answer, indent=1))
    else:
        for entry in entries:
            print("\n".join(entry_lines(entry)))
        print(_answer(model.name, since, day, lake.url))
        if since is not None and (version := anchor(entries)) != since.champion:
            print(f"{model.name}: {version} is the anchor")
        if waits is not None:
            print(_waiting_line(model.name, waits, day))
    return 1 if since is None else 0


def entry_lines(entry: "Promotion") -> Iterator[str]:
    """Yield the lines that show an entry of the log."""
    from ml_assets.logic.promotion.log import GATE

    action = entry.action.replace("_", " ")
    yield f"{entry.number:>4}  {_moment(entry)}  {action:<8}  {entry.challenger[:12]}  by {entry.decided_by}"
    if entry.cause is not None and entry.decided_by == GATE:
        was_in_shadow = "it was judged again by its comparison in shadow"
        yield f"      {was_in_shadow if entry.was_in_shadow else f'its training was requested by {entry.cause}'}"
    for reason in entry.reasons:
        yield f"      {reason}"


def _moment(entry: "Promotion") -> str:
    return f"{entry.decided_at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _waiting_line(name: str, waits: "Promotion", day: date | None) -> str:
    since = f"since {_moment(waits)} UTC (entry {waits.number})"
    if day is not None:
        return f"{name}: {waits.challenger} was waiting at the end of {day}, {since}"
    command = f"ml-assets promote {name} {waits.challenger[:12]} --why REASON"
    return f"{name}: {waits.challenger} waits for approval {since}; approve it with: {command}"


def _past_day(text: str, zone: str) -> date:
    from ml_assets.orchestration.flow import day_given

    day, today = day_given(text, "--on"), yesterday(datetime.now(tz=UTC), zone) + timedelta(days=1)
    if day > today:
        raise DataError(f"--on {day} is in the future; expected a day up to {today} ({zone}).")
    return day


def _answer(name: str, since: "Promotion | None", day: date | None, lake: str) -> str:
    verb = "is the champion" if day is None else f"was the champion at the end of {day}"
    if since is None:
        return (
            f"{name}: there is no champion in {lake}; run the model first"
            if day is None
            else f"{name}: no champion on {day}"
        )
    return f"{name}: {since.champion} {verb}, since {_moment(since)} UTC (entry {since.number}, {since.decided_by})"

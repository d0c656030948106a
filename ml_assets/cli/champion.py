"""`ml-assets champion MODEL`: who serves, or served at the end of a day, since when, why and by whom."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from ml_assets.contracts.artifacts import Promotion


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("champion", help="who serves, since when, why and by whom")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--on", metavar="DAY", help="who was champion at the end of this day (default: now)")
    command.add_argument("--json", action="store_true", help="the answer and the promotion log as JSON")
    command.set_defaults(function=champion)


def champion(arguments: argparse.Namespace) -> int:
    """Print the promotion log's answer; 1 if nobody serves.

    Raises:
        DataError: the day is none, or is still to come.
    """
    import json
    from datetime import UTC

    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.contracts.artifacts import Promotion
    from ml_assets.contracts.days import end_of
    from ml_assets.lake.promotion_log import PromotionLog
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import anchor, serving_since, waiting

    model = read_declarations().model(arguments.model)
    zone = model.days.timezone
    day = None if arguments.on is None else _past_day(arguments.on, zone)
    log = PromotionLog(LakeResource().open(), model.name, Promotion)
    entries = [*log.verified().entries] if day is None else log.before(end_of(day, zone).replace(tzinfo=UTC))
    since, waits = serving_since(entries), waiting(entries)
    if arguments.json:
        answer = {
            "model": model.name,
            "on": None if day is None else str(day),
            "champion": None if since is None else since.champion,
            "since": None if since is None else since.model_dump(mode="json"),
            "anchor": anchor(entries),
            "waits": None if waits is None else waits.model_dump(mode="json"),
            "log": [entry.model_dump(mode="json") for entry in entries],
        }
        print(json.dumps(answer, indent=1))
    else:
        for entry in entries:
            print("\n".join(lines_of(entry)))
        print(_answer(model.name, since, day))
        if since is not None and (kept := anchor(entries)) != since.champion:
            print(f"{model.name}: {kept} is the anchor")
        if waits is not None:
            print(_told_waiting(model.name, waits, day))
    return 1 if since is None else 0


def lines_of(entry: "Promotion") -> Iterator[str]:
    """Yield an entry of the log as a person reads it."""
    from datetime import UTC

    from ml_assets.logic.promotion.log import GATE

    at = entry.decided_at.astimezone(UTC)
    yield f"{entry.number:>4}  {at:%Y-%m-%d %H:%M}  {entry.action:<8}  {entry.challenger[:12]}  by {entry.decided_by}"
    if entry.cause is not None and entry.decided_by == GATE:
        yield f"      its training was asked for by {entry.cause}"
    for reason in entry.reasons:
        yield f"      {reason}"


def _told_waiting(name: str, waits: "Promotion", day: "date | None") -> str:
    from datetime import UTC

    at = waits.decided_at.astimezone(UTC)
    said = f"since {at:%Y-%m-%d %H:%M} UTC (entry {waits.number})"
    if day is not None:
        return f"{name}: {waits.challenger} waited at the end of {day}, {said}"
    mend = f"ml-assets promote {name} {waits.challenger[:12]} --why REASON"
    return f"{name}: {waits.challenger} waits {said}; let it in with: {mend}"


def _past_day(text: str, zone: str) -> "date":
    from datetime import UTC, datetime, timedelta

    from ml_assets.cli.flow.flow import day_given
    from ml_assets.contracts.days import yesterday
    from ml_assets.contracts.errors import DataError

    day, today = day_given(text, "--on"), yesterday(datetime.now(tz=UTC), zone) + timedelta(days=1)
    if day > today:
        raise DataError(f"--on {day} is still to come; expected a day up to {today} ({zone}). Leave it out for now.")
    return day


def _answer(name: str, since: "Promotion | None", day: "date | None") -> str:
    from datetime import UTC

    verb = "serves" if day is None else f"served at the end of {day}"
    if since is None:
        return f"{name}: nobody {verb}" + ("; run the model first" if day is None else "")
    at = since.decided_at.astimezone(UTC)
    return f"{name}: {since.champion} {verb}, since {at:%Y-%m-%d %H:%M} UTC (entry {since.number}, {since.decided_by})"

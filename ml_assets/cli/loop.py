"""`ml-assets loop`: lands one day a minute of the example, so that a person can watch what the automation does."""

import argparse
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.authoring.loop import HeldBack

_HOST: Final = "127.0.0.1"
_SHORTEST: Final = 5.0
_OF_OTHERS: Final = ("ML_ASSETS_LAKE", "ML_ASSETS_PROJECT", "DAGSTER_HOME")
"""Settings of the user's own project, which the loop leaves alone."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("loop", help="watch the example: one new day a minute, and what follows from it")
    command.add_argument(
        "--folder", type=Path, default=Path(".loop"), metavar="FOLDER",
        help="a new folder for the project, its lake and its history, or one to go on with (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--seconds", type=float, default=60.0, metavar="N", help="between two days (default: 60)")
    command.add_argument("--days", type=int, metavar="N", help="how many days arrive (default: all 61)")
    command.add_argument("--port", type=int, default=3000, metavar="N", help="of the web UI (default: %(default)s)")
    command.set_defaults(function=loop)


def loop(arguments: argparse.Namespace) -> int:
    """Write the project, train the first champion, run the UI, and deliver day after day until the user stops it.

    Raises:
        DataError: an argument is wrong, the folder exists, or the port is taken.
    """
    from ml_assets.authoring.loop import MODEL, TRAINED_ON, HeldBack, loop_files
    from ml_assets.cli.init import project_files, write_new
    from ml_assets.cli.main import parser
    from ml_assets.cli.ui import check_address, run_ui
    from ml_assets.lake.promotion_log import PromotionLog
    from ml_assets.lake.store import Lake

    if not arguments.seconds >= _SHORTEST:
        raise DataError(f"--seconds is {arguments.seconds:g}; expected {_SHORTEST:g} or more.")
    if arguments.days is not None and arguments.days < 1:
        raise DataError(f"--days is {arguments.days}; expected 1 or more.")
    folder: Path = arguments.folder.absolute()
    files = project_files("loop", is_bare=False)
    held = HeldBack.of(folder, files)
    if folder.exists() and not held.is_begun:
        raise DataError(f"--folder {arguments.folder} exists and is no loop that was begun; name a new folder.")
    check_address(_HOST, arguments.port)
    if not held.is_begun:
        write_new(folder, loop_files(files))
        for day in sorted({*held.days} - {*held.later}):
            held.deliver(day)
    for name in _OF_OTHERS:
        os.environ.pop(name, None)
    os.chdir(folder)
    first = parser().parse_args(["run", MODEL, "--as-of", str(TRAINED_ON)])
    if PromotionLog(Lake(str(folder / ".lake")), MODEL).last() is None and (code := first.function(first)) != 0:
        return int(code)
    print(f"\nDagster's UI: http://{_HOST}:{arguments.port} (Ctrl-C ends it; its log is {folder / 'ui.log'})")
    print(
        "Look at the asset ml_assets_overview, the checks of rental_demand/drift, and Overview > Timeline.\n",
        flush=True,
    )
    deliveries = threading.Thread(target=_deliver, args=[held, arguments, time.sleep], daemon=True)
    with (folder / "ui.log").open("wb") as output:
        deliveries.start()
        return run_ui(_HOST, arguments.port, output)


def _deliver(held: "HeldBack", arguments: argparse.Namespace, sleep: Callable[[float], None]) -> None:
    """Deliver the days one after another once the UI is there, and print what the model's logs say meanwhile."""
    from ml_assets.authoring.loop import Seen, offer_end
    from ml_assets.cli.ui import is_ui_served
    from ml_assets.lake.errors import LakeError
    from ml_assets.lake.store import Lake

    while not is_ui_served(_HOST, arguments.port):
        sleep(0.5)
    lake, seen = Lake(str(held.folder / ".lake")), Seen(entries=1)
    days = held.missing[: arguments.days]
    for day in [*days, *(held.later[-1] + timedelta(days=more) for more in range(1, 6))]:
        if day in days:
            print(f"{time.strftime('%H:%M:%S')}  {day}  {held.deliver(day)}", flush=True)
        for _ in range(max(1, round(arguments.seconds / 5))):
            sleep(arguments.seconds / max(1, round(arguments.seconds / 5)))
            try:
                for line in seen.news(lake, day):
                    print(f"{time.strftime('%H:%M:%S')}              {line}", flush=True)
            except LakeError as error:
                print(f"{time.strftime('%H:%M:%S')}              {error}", flush=True)
            held.offer_ends = offer_end(seen.promoted_on)
    print("All days have arrived. The UI goes on until Ctrl-C.", flush=True)

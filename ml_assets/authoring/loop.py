"""A project whose days arrive one after another, to watch what the automation makes of them.

It is the example of `ml-assets init`. Half of its days are held back, and some are changed: a day is refused and
corrected, and an offer changes the demand until a retrained model is promoted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Final

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake

MODEL: Final = "rental_demand"
TRAINED_ON: Final = date(2011, 7, 1)
"""The last day that is there from the start."""
BAD_DAY: Final = date(2011, 7, 4)
CORRECTED_ON: Final = date(2011, 7, 6)
"""The day with which the file of the bad day arrives again, without errors."""
OFFER_BEGINS: Final = date(2011, 7, 8)
FACTOR: Final = 2.5
"""How many times as many bikes are rented during the offer."""
KEPT_AFTER: Final = 0
"""Days from the first promotion to the last day of the offer. The watch compares the days after a promotion."""
_BAD_HOURS: Final = ("3", "9", "15")
_DATA: Final = PurePosixPath("data")
_CHANGES: Final[Mapping[PurePosixPath, tuple[tuple[str, str], ...]]] = {
    PurePosixPath("defs/raw/defs.yaml"): (
        ("      file: data/rentals.csv\n", "      files: data/days/{day}.csv\n      settle_seconds: 0\n"),
    ),
    # An hour has fewer days than a year: smaller windows, and shorter waits.
    PurePosixPath("defs/rental_demand/defs.yaml"): (
        ("split: {validation_days: 7, test_days: 14}", "split: {validation_days: 3, test_days: 7}"),
        ("cool_down_days: 14", "cool_down_days: 5"),
        ("min_rows: 300, min_slice_rows: 100", "min_rows: 150, min_slice_rows: 40"),
        ("pool_days: 7", "pool_days: 3"),
        ("{min_rows: 150, pool", "{min_rows: 60, pool"),
        ("watch: {margin: 2}", "watch: {days: 14, margin: 2}"),
    ),
}


@dataclass
class HeldBack:
    """The days of the example, of which those after the first training are held back.

    Attributes:
        folder: of the project.
        days: the lines of each day, with their end.
        header: the line with the names of the columns.
        offer_ends: the first day after the offer; None while it is not known.
    """

    folder: Path
    header: str
    days: Mapping[date, tuple[str, ...]]
    offer_ends: date | None = None
    is_corrected: bool = False

    @classmethod
    def of(cls, folder: Path, files: Mapping[PurePosixPath, bytes]) -> "HeldBack":
        """Return the days of the files of the example."""
        header, *lines = (
            (files[_DATA / "rentals.csv"] + files[_DATA / "rentals_next_days.csv"]).decode().splitlines(True)
        )
        days: dict[date, list[str]] = {}
        for line in lines:
            days.setdefault(date.fromisoformat(line[:10]), []).append(line)
        return cls(folder, header, {day: tuple(its) for day, its in days.items()})

    @property
    def later(self) -> list[date]:
        """The days that are held back."""
        return [day for day in sorted(self.days) if day > TRAINED_ON]

    @property
    def is_begun(self) -> bool:
        """Whether the folder has days that were delivered."""
        return self._place.is_dir()

    @property
    def missing(self) -> list[date]:
        """The days that are held back and were not delivered yet."""
        return [day for day in self.later if not (self._place / f"{day}.csv").exists()]

    @property
    def _place(self) -> Path:
        return self.folder / _DATA / "days"

    def deliver(self, day: date) -> str:
        """Write the file of a day, which appears when it is complete; return what is in it, as text."""
        lines, what = self.days[day], counted(len(self.days[day]), "row")
        has_offer = day >= OFFER_BEGINS and (self.offer_ends is None or day < self.offer_ends)
        if has_offer:
            lines, what = tuple(map(_with_offer, lines)), f"{what}; an offer: {FACTOR:g} times the rentals"
        if day == BAD_DAY and not self.is_corrected:
            lines, what = tuple(map(_broken, lines)), f"{what}; {len(_BAD_HOURS)} of them have a temperature of 7"
        if day == CORRECTED_ON and not self.is_corrected:
            self.is_corrected = True
            what = f"{what}; {BAD_DAY} again, corrected: {self.deliver(BAD_DAY)}"
        self._place.mkdir(exist_ok=True)
        unfinished = self._place / f".{day}.unfinished"
        unfinished.write_text(self.header + "".join(lines), encoding="utf-8")
        unfinished.replace(self._place / f"{day}.csv")
        return what


def loop_files(files: Mapping[PurePosixPath, bytes]) -> dict[PurePosixPath, bytes]:
    """Return the files of the example project for the loop: its days arrive as files, and its windows are smaller.

    Raises:
        DataError: a declaration is not the example's.
    """
    changed = {path: content for path, content in files.items() if not path.name.startswith("rentals")}
    for path, pairs in _CHANGES.items():
        text = changed[path].decode()
        for before, after in pairs:
            if text.count(before) != 1:
                raise DataError(f"{path} of the example has '{before.strip()}' not exactly once; the loop changes it.")
            text = text.replace(before, after)
        changed[path] = text.encode()
    return changed


@dataclass
class Seen:
    """What was already said of the model's logs."""

    entries: int = 0
    retrainings: set[tuple[date, int]] = field(default_factory=set)
    promoted_on: date | None = None

    def news(self, lake: Lake, today: date) -> Iterator[str]:
        """Yield what the logs have that was not said yet."""
        for it in RetrainingLog(lake, MODEL).newest(8):
            if (it.as_of, it.number) not in self.retrainings:
                self.retrainings.add((it.as_of, it.number))
                yield f"retraining requested by {it.cause}: {it.sentence}"
        for entry in PromotionLog(lake, MODEL).entries()[self.entries :]:
            self.entries = entry.number
            if entry.action == "promote" and entry.number > 1 and self.promoted_on is None:
                self.promoted_on = today
            yield f"{entry.action} {entry.challenger[:12]} by {entry.decided_by} (entry {entry.number})"


def offer_end(promoted_on: date | None) -> date | None:
    """Return the first day after the offer: some days after the promotion of a champion that knows it."""
    return None if promoted_on is None else promoted_on + timedelta(days=KEPT_AFTER + 1)


def _with_offer(line: str) -> str:
    *others, casual, registered, _ = line.rstrip("\n").split(",")
    more = [round(int(it) * FACTOR) for it in (casual, registered)]
    return f"{','.join(others)},{more[0]},{more[1]},{sum(more)}\n"


def _broken(line: str) -> str:
    parts = line.split(",")
    return ",".join([*parts[:5], "7", *parts[6:]]) if parts[1] in _BAD_HOURS else line

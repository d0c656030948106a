"""The promotion log: which version is champion since when, and why. Append-only; entry N+1 is created only if absent.

Each entry ends with a digest of itself and contains that of the previous entry. So an edited entry, a gap, or an entry
of another log is noticed. The newest digest is repeated in manifests, mainly of predictions, so that a truncated or
replaced log is noticed too.

Not here: whether a challenger is good enough (see `ml_assets.logic.promotion.gate`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError, PromotionConflictError
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.numbered_log import MOST_BYTES, Numbered, NumberedLog, check_model_name, is_model_name
from ml_assets.lake.objects import Objects, Stat
from ml_assets.lake.order import MANIFEST_NAME

LAST_NUMBER: Final = 999_999
TRIES: Final = 10
"""How often a decision is attempted. Each attempt but the last fails because another process added an entry first."""
PROMOTIONS: Final = "promotions"
SET_ASIDE: Final = "set_aside"
"""The folder of damaged logs that a person replaced by a new one."""
HEAD: Final = "promotion_log_entry"
"""The parameter of a manifest with the newest entry at the time of its materialization."""
NAMED_BY: Final = ("predictions", "champion", "evaluation")
"""The assets of a model whose manifests have that parameter."""
MANIFESTS: Final = 64
"""How many of those manifests are compared with the log before a decision or a prediction. `doctor` compares all."""

_ENTRY = re.compile(r"(?!000000)\d{6}\.json")
_ENTRIES: Final = NumberedLog(
    "an entry of the promotion log", Promotion, lambda it: f"{PROMOTIONS}/{it.model}/{_name(it.number)}", fix=""
)
T = TypeVar("T")


class Head(Record):
    """The newest entry of a log, as manifests name it."""

    number: int
    digest: str


@dataclass(frozen=True)
class LogState:
    """The readable part of a log, and its problems.

    Attributes:
        entries: the readable entries, oldest first.
        problems: damages, one sentence each, starting with the oldest entry; empty for an intact log.
        head: the newest entry.
    """

    entries: Sequence[Promotion]
    problems: Sequence[str]
    head: Head | None


@dataclass(frozen=True)
class PromotionLog:
    """The log of one model: `promotions/<model>/000001.json` and so on.

    Raises:
        LakeError: the model's name is not valid.
    """

    lake: Objects
    model: str

    def __post_init__(self) -> None:
        check_model_name(self.model, "promotion log")

    @property
    def _folder(self) -> str:
        return self.lake.path(PROMOTIONS, self.model)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{_name(number)}"

    def entries(self) -> list[Promotion]:
        """Return all entries, oldest first.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        return [*self._intact(0).entries]

    def verified(self) -> LogState:
        """Return the log after comparing it with the newest manifests that name its entries. Called before decisions.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        return self._intact(MANIFESTS)

    def before(self, moment: datetime) -> list[Promotion]:
        """Return the log just before a moment. Its last entry names the champion of that time.

        Entries are ordered by their numbers, not by clocks, which may be wrong. So an entry is included if it or any
        later one was decided before the moment.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        entries = self.verified().entries
        decided = [entry.number for entry in entries if entry.decided_at < moment]
        return [*entries[: max(decided, default=0)]]

    def last(self) -> Promotion | None:
        """Return the newest entry; None in an empty log.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        entries = self.entries()
        return entries[-1] if entries else None

    def newest_number(self) -> int:
        """Return the number of the newest entry from one listing, without reading it; 0 in an empty log.

        Raises:
            LakeError: the lake cannot be read.
        """
        listed = self.lake.list_each([self._folder])[self._folder]
        return max((int(name[:6]) for name in listed if _ENTRY.fullmatch(name)), default=0)

    def append(self, entry: Promotion, *, number: int) -> Promotion:
        """Add an entry with a number that is one higher than the last one that the decision was based on.

        Returns:
            The written entry, with the digest of the previous one.

        Raises:
            PromotionConflictError: another process added that number first; read the log again and repeat the decision.
            CorruptArtifactError: the previous entry is damaged.
            LakeError: the lake cannot be written, the log is full, or the entry does not belong here.
        """
        if not 1 <= number <= LAST_NUMBER:
            raise LakeError(
                f"the promotion log of {self.model} accepts entries 1 to {LAST_NUMBER}, but this one is {number}. "
                "Find out which process writes so many, and continue under another model's name."
            )
        if (entry.model, entry.number) != (self.model, number):
            raise LakeError(f"{entry.model}'s entry {entry.number} cannot be entry {number} of {self.model}'s log.")
        if entry.decided_at.tzinfo is None:
            raise LakeError(f"entry {number} of the promotion log of {self.model} was {_without_zone(entry)}.")
        previous = None if number == 1 else self._read(number - 1).digest
        chained = entry.model_copy(update={"previous_digest": previous})
        if not _ENTRIES.claim(self.lake, chained):
            raise PromotionConflictError(self._conflict_message(number))
        return chained

    def set_aside(self, now: datetime) -> tuple[str, tuple[str, ...]]:
        """Move a damaged log to another folder, so that a new one can begin.

        The first entries are moved first. If the process is killed meanwhile, the rest is a damaged log, which can be
        moved in the same way.

        Returns:
            The new folder, and the digests of the entries that manifests name.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        folder = self.lake.path(SET_ASIDE, PROMOTIONS, self.model, f"{now:%Y%m%dT%H%M%SZ}")
        named = sorted({head.digest for head, _ in self._named(None)})
        for name in self.lake.tree(self._folder):
            self.lake.move(f"{self._folder}/{name}", f"{folder}/{name}")
        return folder, tuple(named)

    def inspect(self, manifests: int | None = MANIFESTS) -> LogState:
        """Return the readable part of the log, and its damages.

        Args:
            manifests: how many of the newest manifests that name an entry are compared with it; None for all.
        """
        listed = self.lake.list_each([self._folder])[self._folder]
        numbers = {int(name[:6]): stat for name, stat in listed.items() if _ENTRY.fullmatch(name)}
        last = max(numbers, default=0)
        problems = [
            f"{self._folder}/{name} does not belong there; expected only 000001.json and so on. Move it away"
            for name in listed
            if not _ENTRY.fullmatch(name) and not name.endswith(".part")
        ]
        texts = self.lake.map(lambda it: self._read_or_problem(*it), numbers.items())
        read = dict(zip(numbers, texts, strict=True))
        found: dict[int, Numbered[Promotion]] = {}
        for number in range(1, last + 1):
            it = read.get(number, f"{self._path(number)} is missing: the log goes on to entry {last}")
            if isinstance(it, str):
                problems.append(it)
                continue
            found[number] = it
            before = found.get(number - 1)
            if number > 1 and before is not None and it.record.previous_digest != before.digest:
                problems.append(
                    f"{self._path(number)} follows an entry with the digest {it.record.previous_digest}, but entry "
                    f"{number - 1} has {before.digest}: one of them was replaced"
                )
            elif number == 1 and it.record.previous_digest is not None:
                problems.append(
                    f"{self._path(1)} follows an entry with the digest {it.record.previous_digest}; expected none"
                )
        if manifests != 0:
            given_up = {digest for it in found.values() for digest in it.record.replaced_entries}
            named = [it for it in self._named(manifests) if it[0].digest not in given_up]
            problems += self._not_as_named(found, last, named)
        head = Head(number=last, digest=found[last].digest) if last in found else None
        return LogState([it.record for it in found.values()], problems, head)

    def _intact(self, manifests: int) -> LogState:
        """Return the log.

        Raises:
            CorruptArtifactError: it is damaged.
        """
        state = self.inspect(manifests)
        if state.problems:
            more = f" (and {len(state.problems) - 1} more)" if len(state.problems) > 1 else ""
            raise CorruptArtifactError(
                f"the promotion log of {self.model} is damaged, so it is used for no decision and no prediction: "
                f"{state.problems[0]}{more}. {self.repair}"
            )
        return state

    @property
    def repair(self) -> str:
        """How to fix a damaged log, in sentences."""
        return (
            f"Restore what was written in {self._folder}, from a backup or an earlier version of the object; "
            "`ml-assets doctor` lists all damages. If there is no backup, begin a new log, which sets the "
            f"damaged one aside: ml-assets promote {self.model} VERSION --new-log --why REASON."
        )

    def _read_or_problem(self, number: int, stat: Stat) -> Numbered[Promotion] | str:
        try:
            return self._read(number, stat)
        except (CorruptArtifactError, MissingArtifactError) as error:
            return str(error).rstrip(". ")

    def _read(self, number: int, stat: Stat | None = None) -> Numbered[Promotion]:
        """Return an entry.

        Raises:
            MissingArtifactError: it does not exist.
            CorruptArtifactError: it is damaged, or belongs to another path.
        """
        found = _ENTRIES.read(self.lake, self._path(number), stat)
        if found.record.decided_at.tzinfo is None:
            raise CorruptArtifactError(f"{self._path(number)} was {_without_zone(found.record)}.")
        return found

    def _not_as_named(
        self, found: Mapping[int, Numbered[Promotion]], last: int, named: Sequence[tuple[Head, str]]
    ) -> Iterator[str]:
        """Yield the entries that differ from those that manifests name, each once."""
        reported: set[int] = set()
        for head, path in sorted(named, key=lambda it: it[0].number):
            if head.number in reported:
                continue
            if head.number > last:
                reported.add(head.number)
                yield (
                    f"{self._path(head.number)} is missing: {path} was written when it was the newest entry (digest "
                    f"{head.digest}), but the log ends at entry {last}"
                )
            elif head.number in found and found[head.number].digest != head.digest:
                reported.add(head.number)
                yield (
                    f"{self._path(head.number)} was replaced: it has the digest {found[head.number].digest}, but "
                    f"{path} names {head.digest}"
                )

    def _named(self, count: int | None) -> list[tuple[Head, str]]:
        """Return the entries that manifests name, with the manifests' paths. Damaged manifests are ignored here."""
        listed: dict[str, Stat] = {}
        for asset in NAMED_BY:
            root = self.lake.path("artifacts", self.model, asset)
            there = self.lake.tree_with_sizes(root)
            listed |= {
                f"{root}/{name}": stat
                for name, stat in there.items()
                if MANIFEST_NAME.fullmatch(name.rsplit("/", 1)[-1])
            }
        newest = sorted(listed, key=lambda path: (listed[path].modified_at, path), reverse=True)[:count]
        heads = self.lake.map(lambda path: _head_named(self.lake, path, listed[path]), newest)
        return [(head, path) for head, path in zip(heads, newest, strict=True) if head is not None]

    def _conflict_message(self, number: int) -> str:
        """Return the message for an author whose number was taken by another process."""
        won, entries = self._read(number).record, self.entries()
        action = won.action.replace("_", " ")
        count, champion = len(entries), entries[-1].champion
        since = f", and {count - number} more since" if count > number else ""
        return (
            f"entry {number} of the promotion log of {self.model} was written by {won.decided_by} meanwhile "
            f"({action} {won.challenger[:12]}: {' '.join(won.reasons[:1])}){since}; the current champion is "
            f"{champion or 'none'}. Nothing was changed: check the log and decide again."
        )


def retry_on_conflict(decide: Callable[[], T]) -> T:
    """Return the result of `decide`, which reads a log, decides and appends. It is repeated after a conflict.

    Raises:
        PromotionConflictError: other processes keep adding entries.
    """
    for _ in range(TRIES - 1):
        with suppress(PromotionConflictError):
            return decide()
    return decide()


def models_with_log(lake: Objects) -> list[str]:
    """Return the models that have a promotion log, and those whose manifests may name a deleted log."""
    found = {relative.split("/")[0] for relative in lake.tree(lake.path(PROMOTIONS)) if "/" in relative}
    for model in lake.names(lake.path("artifacts")):
        if not {*NAMED_BY}.isdisjoint(lake.names(lake.path("artifacts", model))):
            found.add(model)
    return sorted(filter(is_model_name, found))


def _head_named(lake: Objects, path: str, stat: Stat) -> Head | None:
    """Return the entry that a manifest names; None if it names none, is damaged, or was removed after it was listed."""
    try:
        manifest = Manifest.read(lake.read(path, limit=MOST_BYTES, known=stat), path)
        return Head.model_validate(manifest.parameters[HEAD]) if HEAD in manifest.parameters else None
    except (CorruptArtifactError, MissingArtifactError, ValidationError):
        return None


def _without_zone(entry: Promotion) -> str:
    return f"decided at {entry.decided_at}, without a time zone; expected UTC"


def _name(number: int) -> str:
    return f"{number:06d}.json"

"""The promotion log: which version is champion from when on, and why. Append-only; entry N+1 is created only if absent.

Each entry ends with a digest of itself and carries that of the entry before it, so that an edited entry, a gap or an
entry of another log is noticed. The newest digest is repeated in manifests, of predictions first of all, so that a log
whose newest entries were cut off, or that was replaced as a whole, is noticed too.

Not here: what makes a challenger good enough (that is the gate).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError, PromotionConflictError
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.objects import Objects, Stat
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.sealing import Sealable, digest_of_seal, seal, unseal

LAST_NUMBER: Final = 999_999
TRIES: Final = 10
"""Times that one decision is made; each time but the last, another process has added an entry first."""
MOST_BYTES: Final = 2**20
"""An entry has a few kB, and so has a manifest that names one."""
PROMOTIONS: Final = "promotions"
SET_ASIDE: Final = "set_aside"
"""The part of the lake that holds damaged logs in whose place a person began a new one."""
HEAD: Final = "promotion"
"""The parameter of a manifest that says which entry was the newest when its artifact was made."""
NAMED_BY: Final = ("predictions", "champion", "evaluation")
"""The assets of a model whose manifests say that."""
MANIFESTS: Final = 64
"""How many of those manifests are compared with the log before a decision or a prediction; `doctor` compares all."""

_MODEL = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ENTRY = re.compile(r"(?!000000)\d{6}\.json")


class LogEntry(Sealable, Protocol):
    """What the log itself needs to know of an entry: a frozen pydantic record with these fields."""

    @property
    def number(self) -> int:
        """Its place in the log, from 1."""

    @property
    def model(self) -> str:
        """Whose log it is in."""

    @property
    def action(self) -> str:
        """What was decided."""

    @property
    def champion(self) -> str | None:
        """The champion after this entry; None where there is none."""

    @property
    def challenger(self) -> str:
        """The version that it was decided about."""

    @property
    def reasons(self) -> Sequence[str]:
        """Why, in sentences."""

    @property
    def decided_at(self) -> datetime:
        """When it was decided, with its time zone."""

    @property
    def decided_by(self) -> str:
        """Who decided."""

    @property
    def previous(self) -> str | None:
        """The digest of the entry before it; None of the first."""

    @property
    def gives_up(self) -> Sequence[str]:
        """The digests of entries of a damaged log that this one began anew."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Return it with some fields replaced."""


Entry = TypeVar("Entry", bound=LogEntry)
T = TypeVar("T")


class Head(BaseModel):
    """The newest entry of a log, as manifests name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    digest: str


class _Read(NamedTuple, Generic[Entry]):
    """An entry and the digest that its text ends with."""

    entry: Entry
    digest: str


@dataclass(frozen=True)
class Look(Generic[Entry]):
    """A log as far as it can be read.

    Attributes:
        entries: those that can be read, oldest first.
        problems: what is damaged, a sentence each, the oldest entry first; none where the log is whole.
        head: the newest entry.
    """

    entries: Sequence[Entry]
    problems: Sequence[str]
    head: Head | None


@dataclass(frozen=True)
class PromotionLog(Generic[Entry]):
    """The log of one model: `promotions/<model>/000001.json` and so on.

    Raises:
        LakeError: the model's name is none.
    """

    lake: Objects
    model: str
    kind: type[Entry]

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise LakeError(
                f"'{self.model}' is not a model's name, so it has no promotion log; expected up to 63 of a-z, 0-9 and "
                "_, from a letter. Name a declared model."
            )

    @property
    def _folder(self) -> str:
        return self.lake.path(PROMOTIONS, self.model)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{_name(number)}"

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        return [*self._whole(0).entries]

    def verified(self) -> Look[Entry]:
        """Return the log after comparing it with the newest manifests that name its entries: before a decision.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        return self._whole(MANIFESTS)

    def before(self, moment: datetime) -> list[Entry]:
        """Return the log as it stood just before a moment; its last entry names the champion of that time.

        The numbers say what came after what. A clock that was wrong does not: an entry counts as soon as it or any
        later one had been decided.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        entries = self.verified().entries
        decided = [entry.number for entry in entries if entry.decided_at < moment]
        return [*entries[: max(decided, default=0)]]

    def last(self) -> Entry | None:
        """Return the newest entry; None in an empty log.

        Raises:
            CorruptArtifactError: the log is damaged.
        """
        entries = self.entries()
        return entries[-1] if entries else None

    def append(self, entry: Entry, *, number: int) -> Entry:
        """Add an entry as number `number`: one more than there were in the log that the decision was made on.

        Returns:
            The entry as it was written, with the digest of the one before it.

        Raises:
            PromotionConflictError: somebody else added that number first; read the log again and decide anew.
            CorruptArtifactError: the entry before it is damaged.
            LakeError: the lake cannot be written, the log is full, or the entry is not of this place.
        """
        if not 1 <= number <= LAST_NUMBER:
            raise LakeError(
                f"the promotion log of {self.model} takes entries 1 to {LAST_NUMBER}, and this one is {number}. Nobody "
                "decides that often: see what writes to it, and go on under another model's name."
            )
        if (problem := self._problem(entry, number)) is not None:
            raise LakeError(f"entry {number} of the promotion log of {self.model} cannot be written: {problem}.")
        previous = None if number == 1 else self._read(number - 1, None).digest
        chained = entry.model_copy(update={"previous": previous})
        try:
            self.lake.create(self._path(number), seal(chained))
        except FileExistsError as error:
            raise PromotionConflictError(self._who_won(number)) from error
        return chained

    def set_aside(self, now: datetime) -> tuple[str, tuple[str, ...]]:
        """Move a damaged log away, so that a new one can begin.

        Killed in between, it leaves a damaged log: the first entries go first.

        Returns:
            Where it is now, and the digests of the entries that manifests name.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        folder = self.lake.path(SET_ASIDE, PROMOTIONS, self.model, f"{now:%Y%m%dT%H%M%SZ}")
        named = sorted({head.digest for head, _ in self._named(None)})
        for name in self.lake.tree(self._folder):
            self.lake.move(f"{self._folder}/{name}", f"{folder}/{name}")
        return folder, tuple(named)

    def look(self, manifests: int | None = MANIFESTS) -> Look[Entry]:
        """Return the log as far as it can be read, and what is damaged.

        Args:
            manifests: how many of the newest manifests that name an entry are compared with it; None for all.
        """
        listed = self.lake.look_into([self._folder])[self._folder]
        numbers = {int(name[:6]): stat for name, stat in listed.items() if _ENTRY.fullmatch(name)}
        last = max(numbers, default=0)
        problems = [
            f"{self._folder}/{name} does not belong there; expected only 000001.json and so on, so move it away"
            for name in listed
            if not _ENTRY.fullmatch(name) and not name.endswith(".part")
        ]
        with self.lake.pool(len(numbers)) as each:
            read = dict(zip(numbers, each(lambda it: self._read_or_problem(*it), numbers.items()), strict=True))
        found: dict[int, _Read[Entry]] = {}
        for number in range(1, last + 1):
            it = read.get(number, f"{self._path(number)} is missing: the log goes on to entry {last}")
            if isinstance(it, str):
                problems.append(it)
                continue
            found[number] = it
            before = found.get(number - 1)
            if number > 1 and before is not None and it.entry.previous != before.digest:
                problems.append(
                    f"{self._path(number)} follows an entry with the digest {it.entry.previous}, but entry "
                    f"{number - 1} has {before.digest}: one of them was replaced"
                )
            elif number == 1 and it.entry.previous is not None:
                problems.append(f"{self._path(1)} follows an entry with the digest {it.entry.previous}; expected none")
        if manifests != 0:
            given_up = {digest for it in found.values() for digest in it.entry.gives_up}
            named = [it for it in self._named(manifests) if it[0].digest not in given_up]
            problems += self._not_as_named(found, last, named)
        head = Head(number=last, digest=found[last].digest) if last in found else None
        return Look([it.entry for it in found.values()], problems, head)

    def _whole(self, manifests: int) -> Look[Entry]:
        """Return the log.

        Raises:
            CorruptArtifactError: it is damaged.
        """
        look = self.look(manifests)
        if look.problems:
            more = f" (and {len(look.problems) - 1} more)" if len(look.problems) > 1 else ""
            raise CorruptArtifactError(
                f"the promotion log of {self.model} is damaged, so nothing is decided or predicted by it: "
                f"{look.problems[0]}{more}. {self.repair}"
            )
        return look

    @property
    def repair(self) -> str:
        """How to fix a damaged log, in sentences."""
        return (
            f"Restore what was written in {self._folder}, from a backup or an earlier version of the object; "
            "`ml-assets doctor` lists all that is wrong with it. Where there is none, begin a new log, which sets the "
            f"damaged one aside: ml-assets promote {self.model} VERSION --new-log --why REASON."
        )

    def _read_or_problem(self, number: int, stat: Stat) -> _Read[Entry] | str:
        try:
            return self._read(number, stat)
        except (CorruptArtifactError, MissingArtifactError) as error:
            return str(error).rstrip(". ")

    def _read(self, number: int, stat: Stat | None) -> _Read[Entry]:
        """Return an entry.

        Raises:
            MissingArtifactError: there is none.
            CorruptArtifactError: it is damaged, or that of another place.
        """
        path = self._path(number)
        text = self.lake.read(path, limit=MOST_BYTES, known=stat)
        entry = unseal(text, self.kind, where=path, what="an entry of the promotion log", fix="")
        if (problem := self._problem(entry, number)) is not None:
            raise CorruptArtifactError(f"{path} is not the entry that its name says: {problem}.")
        return _Read(entry, digest_of_seal(text))

    def _problem(self, entry: Entry, number: int) -> str | None:
        """Return why an entry cannot stand at a number of this log; None if it can."""
        if (entry.model, entry.number) != (self.model, number):
            return f"it is entry {entry.number} of {entry.model}; expected entry {number} of {self.model}"
        if entry.decided_at.tzinfo is None:
            return f"it was decided at {entry.decided_at}, without a time zone; expected UTC"
        return None

    def _not_as_named(
        self, found: Mapping[int, _Read[Entry]], last: int, named: Sequence[tuple[Head, str]]
    ) -> Iterator[str]:
        """Yield which entries are not the ones that manifests name, each once."""
        told: set[int] = set()
        for head, path in sorted(named, key=lambda it: it[0].number):
            if head.number in told:
                continue
            if head.number > last:
                told.add(head.number)
                yield (
                    f"{self._path(head.number)} is missing: {path} was made when it was the newest entry (digest "
                    f"{head.digest}), and the log ends at entry {last}"
                )
            elif head.number in found and found[head.number].digest != head.digest:
                told.add(head.number)
                yield (
                    f"{self._path(head.number)} was replaced: it has the digest {found[head.number].digest}, but "
                    f"{path} names {head.digest}"
                )

    def _named(self, count: int | None) -> list[tuple[Head, str]]:
        """Return the entries that manifests name, with the manifests' paths; what reads a damaged one notices that."""
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
        with self.lake.pool(len(newest)) as each:
            heads = each(lambda path: _head_named(self.lake, path, listed[path]), newest)
        return [(head, path) for head, path in zip(heads, newest, strict=True) if head is not None]

    def _who_won(self, number: int) -> str:
        """Return what an author is told whose number somebody else took."""
        won, entries = self._read(number, None).entry, self.entries()
        count, champion = len(entries), entries[-1].champion
        since = f", and {count - number} more since" if count > number else ""
        return (
            f"entry {number} of the promotion log of {self.model} was written by {won.decided_by} meanwhile "
            f"({won.action} {won.challenger[:12]}: {' '.join(won.reasons[:1])}){since}; {champion or 'nobody'} "
            "serves now. Nothing was changed: look at it and decide again."
        )


def retry_on_conflict(decide: Callable[[], T]) -> T:
    """Return what `decide` returns, which reads a log, decides, and appends; it decides anew if another was first.

    Raises:
        PromotionConflictError: other processes keep adding entries.
    """
    for _ in range(TRIES - 1):
        with suppress(PromotionConflictError):
            return decide()
    return decide()


def models_with_log(lake: Objects) -> list[str]:
    """Return the models that have a promotion log, and those whose manifests may name one that is gone."""
    found = {relative.split("/")[0] for relative in lake.tree(lake.path(PROMOTIONS)) if "/" in relative}
    for model in lake.names(lake.path("artifacts")):
        if not {*NAMED_BY}.isdisjoint(lake.names(lake.path("artifacts", model))):
            found.add(model)
    return sorted(filter(_MODEL.fullmatch, found))


def _head_named(lake: Objects, path: str, stat: Stat) -> Head | None:
    """Return the entry that a manifest names; None where it names none, is damaged, or is gone since it was listed."""
    try:
        made = Manifest.read(lake.read(path, limit=MOST_BYTES, known=stat), path)
        return Head.model_validate(made.parameters[HEAD]) if HEAD in made.parameters else None
    except (CorruptArtifactError, MissingArtifactError, ValidationError):
        return None


def _name(number: int) -> str:
    return f"{number:06d}.json"

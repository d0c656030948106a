"""Applies a person's decision about the champion: checks the version, appends one entry to the log, prints the result.

Not here: the choice of the version (see `ml_assets.cli.promote` and `ml_assets.cli.rollback`).
"""

import argparse
import json
import re
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ml_assets.cli.author import author_of, one_line
from ml_assets.cli.champion import entry_lines
from ml_assets.cli.flow.project import prepare, read_table_contracts
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.errors import MissingArtifactError, PromotionConflictError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import Decision, entry_of
from ml_assets.models.champions import why_it_cannot_serve
from ml_assets.models.leaks import proven_leaks
from ml_assets.models.plan import ModelPlan

_ABBREVIATION = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True)
class LogChange:
    """A requested change of a promotion log: the model, the reason and the person.

    Attributes:
        entries: the log as it was read before all checks. The new entry must be the next one, or none is added.
        damage: the damage of a log that is replaced by a new one; None if the log continues.
    """

    model: ModelDeclaration
    lake: Lake
    log: PromotionLog
    entries: tuple[Promotion, ...]
    why: str
    by: str
    as_json: bool
    damage: str | None = None

    @classmethod
    def of(cls, model: ModelDeclaration, lake: Lake, arguments: argparse.Namespace) -> "LogChange":
        """Return the change that the command line requests.

        Raises:
            DataError: the reason or the name is not valid, or --new-log was given for an undamaged log.
            CorruptArtifactError: the log is damaged.
        """
        why, by = one_line(arguments.why, "--why"), author_of(arguments.by)
        log = PromotionLog(lake, model.name)
        if not vars(arguments).get("new_log"):
            return cls(model, lake, log, tuple(log.verified().entries), why, by, arguments.json)
        problems = log.inspect(manifests=None).problems
        if not problems:
            raise DataError(
                f"--new-log is for a damaged promotion log; that of {model.name} is not damaged. Leave it out."
            )
        return cls(model, lake, log, (), why, by, arguments.json, damage=problems[0])

    @property
    def serving(self) -> str | None:
        """The champion according to the entries that were read."""
        return self.entries[-1].champion if self.entries else None

    def version(self, given: str) -> str:
        """Return the model's version that starts with the given text. A complete version is returned without a check.

        Raises:
            DataError: the text is too short or not a version, or several versions start with it.
            MissingArtifactError: no version starts with it.
        """
        asset = f"{self.model.name}/model"
        if not _ABBREVIATION.fullmatch(given):
            raise DataError(f"'{given}' is not a version of {asset}; expected 4 to 32 of the characters 0-9 and a-f.")
        if len(given) == 32:
            return given
        found = [ref.version for ref in self.lake.versions(asset, [""]).get("", []) if ref.version.startswith(given)]
        if len(found) > 1:
            raise DataError(
                f"{len(found)} versions of {asset} start with '{given}': {', '.join(found)}. Give more characters."
            )
        return found[0] if found else self.lake.find(asset, None, given).version

    def settle(self, version: str, action: Literal["promote", "rollback"], *, otherwise: str = "") -> int:
        """Make a version the champion if it can be used, and print the result; return 1 if it is refused.

        Args:
            version: the complete version.
            action: the action of the entry.
            otherwise: what to do instead if it is refused, as a sentence.
        """
        if version == self.serving:
            return self.refuse(f"{version} is already the champion.")
        if against := self._against(version, action):
            listed = "\n".join(f"- {sentence}" for sentence in against)
            return self.refuse(
                f"{version[:12]} cannot be the champion, so nothing was changed:\n{listed}\n{otherwise}".rstrip()
            )
        decision = Decision(action, version, self.why, by=self.by, at=datetime.now(tz=UTC), entry_id=uuid.uuid4().hex)
        entry = entry_of(self.entries, decision, model=self.model.name)
        try:
            self.lake.manifest(self._ref(version))  # garbage collection may have removed it meanwhile
        except MissingArtifactError as error:
            return self.refuse(str(error))
        return self._add(entry if self.damage is None else self._begin_anew(entry), f"{version} is the champion now")

    def withdraw(self, online: Promotion) -> int:
        """Withdraw the challenger that is online by an entry, and print the result; return 1 if it is refused."""
        entry = Promotion(
            number=len(self.entries) + 1,
            model=self.model.name,
            action="withdraw",
            champion=online.champion,
            challenger=online.challenger,
            reasons=(self.why,),
            decided_at=datetime.now(tz=UTC),
            decided_by=self.by,
            id=uuid.uuid4().hex,
        )
        return self._add(entry, f"challenger {online.challenger} is withdrawn; {online.champion} answers all requests")

    def _add(self, entry: Promotion, outcome: str) -> int:
        try:
            entry = self.log.append(entry, number=entry.number)
        except PromotionConflictError as error:
            return self.refuse(str(error))
        if self.as_json:
            print(json.dumps({"entry": entry.model_dump(mode="json"), "problem": None}, indent=1))
        else:
            print("\n".join(entry_lines(entry)))
            print(f"{self.model.name}: {outcome}")
        return 0

    def _begin_anew(self, entry: Promotion) -> Promotion:
        """Set the damaged log aside, and return the entry as the first of a new one."""
        folder, named = self.log.set_aside(entry.decided_at)
        note = f"The previous promotion log was damaged and was set aside in {folder}: {self.damage}."
        return entry.model_copy(update={"reasons": (*entry.reasons, note), "replaced_entries": named})

    def refuse(self, sentence: str) -> int:
        """Print why nothing was changed, to standard error or as JSON."""
        if self.as_json:
            print(json.dumps({"entry": None, "problem": sentence}, indent=1))
        else:
            print(f"ml-assets: {self.model.name}: {sentence}", file=sys.stderr)
        return 1

    def _ref(self, version: str) -> ArtifactRef:
        return ArtifactRef(asset=f"{self.model.name}/model", version=version)

    def _against(self, version: str, action: str) -> tuple[str, ...]:
        """Return why a version cannot be champion. A proven leak prevents a promotion, but not a rollback."""
        prepare()
        plan = ModelPlan.of(self.model, read_table_contracts())
        leaks = proven_leaks(self.lake, self.model.name) if action == "promote" else ()
        return (*leaks, *why_it_cannot_serve(self.lake, plan, version))

"""Which version of each model is served: the promotion log is polled, and a verified version replaces the former one.

A request takes one reference to a served model when it begins, so no answer mixes two versions.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.declaration.challengers import ChallengersSettings
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.errors import CorruptArtifactError, FormatVersionError, LakeError, MissingArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import online
from ml_assets.serving.challenger import Challenger
from ml_assets.serving.feature_rows import refreshed
from ml_assets.serving.served_model import ServedModel, load_challenger, load_served_model

POLL_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 60.0
"""How long a refused version is not loaded again; what was wrong with it may be repaired."""
_DEFAULTS: Final = ServingSettings()
_REFUSED: Final = (DataError, ContractError, MissingArtifactError, CorruptArtifactError, FormatVersionError)
"""The errors of a version; all others are errors of the lake."""


@dataclass(frozen=True)
class Swap:
    """What a look at the promotion log has changed.

    Attributes:
        served: the version that is served now.
        entry: the newest entry of the log.
        refused: why the version of that entry is not served; None if it is.
    """

    served: ServedModel
    entry: int
    refused: str | None = None


@dataclass
class _Slot:
    """A model, the version that is served, the newest entry that was looked at, and the challenger beside it.

    `challenger_of` is the entry and the champion that the challenger was looked for.
    """

    served: ServedModel
    seen: int
    retry_at: float | None = None
    reported: int = 0
    challenger: Challenger | None = None
    challenger_of: tuple[int, str] | None = None


@dataclass
class Registry:
    """The served models by name. Only one thread refreshes it; any may read.

    Attributes:
        pinned: the versions that are served whatever is promoted, by model.
        public_keys: the columns of the key that are not personal, by model.
        settings: what is declared for each model.
        challengers: what is declared of each model's challengers. Without a declaration, the promotion log decides.
        now: the time in UTC.
    """

    lake: Lake
    pinned: Mapping[str, str] = field(default_factory=dict)
    public_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    settings: Mapping[str, ServingSettings] = field(default_factory=dict)
    challengers: Mapping[str, ChallengersSettings] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    slots: dict[str, _Slot] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        lake: Lake,
        models: Sequence[str],
        pinned: Mapping[str, str] | None = None,
        public_keys: Mapping[str, frozenset[str]] | None = None,
        settings: Mapping[str, ServingSettings] | None = None,
        *,
        challengers: Mapping[str, ChallengersSettings] | None = None,
    ) -> "Registry":
        """Load and verify the champion of each model.

        Raises:
            See `ml_assets.serving.served_model.load_served_model` and `ml_assets.serving.feature_rows.refreshed`.
        """
        found = cls(lake, pinned or {}, public_keys or {}, settings or {}, challengers or {})
        for name in models:
            seen = PromotionLog(lake, name).newest_number()
            found.slots[name] = _Slot(found._refreshed(found._loaded(name)), seen)
        return found

    def _loaded(self, name: str) -> ServedModel:
        public = self.public_keys.get(name, frozenset())
        return load_served_model(self.lake, name, pinned=self.pinned.get(name), public=public)

    def _refreshed(self, served: ServedModel) -> ServedModel:
        return refreshed(self.lake, served, self.declared(served.name).look_back, self.now().replace(tzinfo=None))

    def declared(self, name: str) -> ServingSettings:
        """Return what is declared for a model; the defaults without a declaration."""
        return self.settings.get(name, _DEFAULTS)

    def __getitem__(self, name: str) -> ServedModel:
        return self.slots[name].served

    def __contains__(self, name: object) -> bool:
        return name in self.slots

    @property
    def names(self) -> list[str]:
        """The names of the served models."""
        return [*self.slots]

    def refresh(self, name: str) -> Swap | None:
        """Look for a newer entry of a model's log, and serve its champion once it is verified.

        Returns:
            What has changed; None if nothing has. A refused version is reported once.

        Raises:
            LakeError: the lake cannot be read. The current version stays.
        """
        slot = self.slots[name]
        if name in self.pinned:
            return None
        newest = PromotionLog(self.lake, name).newest_number()
        is_due = slot.retry_at is not None and self.clock() >= slot.retry_at
        if newest == slot.seen and not is_due:
            return None
        try:
            found = self._loaded(name)
        except _REFUSED as error:
            slot.seen, slot.retry_at = newest, self.clock() + RETRY_SECONDS
            if slot.reported == newest:
                return None
            slot.reported = newest
            return Swap(slot.served, newest, str(error))
        slot.seen, slot.retry_at = newest, None
        if (found.version, found.entry.number) == (slot.served.version, slot.served.entry.number):
            return None
        with suppress(DataError, LakeError):  # `refresh_features` tries again, and its caller reports what is wrong
            found = self._refreshed(found)
        slot.served = found
        return Swap(found, newest)

    def challenger(self, served: ServedModel) -> Challenger | None:
        """Return the challenger that is scored beside a served version; None without one."""
        slot = self.slots.get(served.name)
        found = None if slot is None else slot.challenger
        return found if found is not None and found.champion == served.version else None

    def refresh_challenger(self, name: str) -> bool:
        """Look in the newest entries for the challenger online, after `refresh`; return whether it or its share is new.

        Raises:
            DataError, ContractError, MissingArtifactError, CorruptArtifactError, FormatVersionError: it cannot score;
                none is online then.
            LakeError: the lake cannot be read.
        """
        slot = self.slots[name]
        at = (slot.seen, slot.served.version)
        if name in self.pinned or at == slot.challenger_of:
            return False
        entries = PromotionLog(self.lake, name).entries()
        entry = online(entries)
        before, slot.challenger = slot.challenger, None
        declared = self.challengers.get(name)
        is_off = declared is not None and not declared.online
        if entry is None or entry.champion != slot.served.version or is_off:
            slot.challenger_of = at
            return before is not None
        is_known = before is not None and (before.served.version, before.champion) == (entry.challenger, entry.champion)
        known = before.served if is_known and before is not None else None
        try:
            served = known or load_challenger(self.lake, slot.served, entry, entries)
        except _REFUSED:
            slot.challenger_of = at  # it is not tried again before the log has another entry
            raise
        slot.challenger_of = at
        share = entry.share if declared is None or declared.canary is not None else 0.0
        slot.challenger = Challenger(served, slot.served.version, share or 0.0)
        return slot.challenger != before

    def refresh_features(self, name: str) -> bool:
        """Look for newer features of a model, and serve them; return whether there are some.

        Raises:
            DataError: they take too much memory. The current ones stay, as with any error.
            LakeError: the lake cannot be read.
        """
        slot = self.slots[name]
        found = self._refreshed(slot.served)
        is_new = found is not slot.served
        slot.served = found
        return is_new

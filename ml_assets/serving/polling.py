"""Polls the promotion log and the features of the lake while the service runs, and reports what changes."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.lake.errors import LakeError
from ml_assets.serving.logs import LOGGER, log_event
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.registry import POLL_SECONDS, Registry, Swap

FEATURES_SECONDS: Final = 15.0
"""How often the features are listed, which takes some requests to an object store."""


@dataclass
class Poller:
    """Looks for newer champions and newer features.

    Attributes:
        on_swap: is called, by a thread, with each change of a served version and each refusal.
    """

    registry: Registry
    metrics: Metrics
    on_swap: Callable[[Swap], None] = lambda _: None
    seconds: float = POLL_SECONDS
    features_seconds: float = FEATURES_SECONDS

    async def run(self) -> None:
        """Look for newer champions until the task is cancelled. A log that cannot be read is logged once."""
        unreachable: set[str] = set()
        failing: set[str] = set()
        unscored: set[str] = set()
        due = time.monotonic() + self.features_seconds
        while True:
            await asyncio.sleep(self.seconds)
            if time.monotonic() >= due:
                for name in self.registry.names:
                    await self._look_for_features(name, failing)
                due = time.monotonic() + self.features_seconds
            for name in self.registry.names:
                try:
                    swap = await asyncio.to_thread(self.registry.refresh, name)
                except LakeError as error:
                    if name not in unreachable:
                        facts = {"model": name, "reason": str(error)}
                        log_event("the promotion log cannot be read", facts, level=logging.ERROR)
                    unreachable.add(name)
                    continue
                except Exception:  # noqa: BLE001 - whatever it is, the log has it and the search goes on
                    LOGGER.exception("the search for a newer champion failed", extra={"fields": {"model": name}})
                    continue
                if name in unreachable:
                    log_event("the promotion log can be read again", {"model": name})
                    unreachable.remove(name)
                if swap is not None:
                    await self._report(swap)
                await self._look_for_challenger(name, unscored)

    async def _look_for_challenger(self, name: str, unscored: set[str]) -> None:
        """Look for a challenger online, or another share of it. What is wrong is logged once."""
        try:
            is_changed = await asyncio.to_thread(self.registry.refresh_challenger, name)
        except (LakeError, DataError, ContractError) as error:
            if name not in unscored:
                self.metrics.count_refused(name)
                log_event("no challenger is scored", {"model": name, "reason": str(error)}, level=logging.ERROR)
            unscored.add(name)
            return
        except Exception:  # noqa: BLE001 - whatever it is, the log has it and the champion goes on
            LOGGER.exception("the search for a challenger failed", extra={"fields": {"model": name}})
            return
        found = self.registry.challenger(self.registry[name])
        if is_changed:
            unscored.discard(name)
        if is_changed and found is None:
            log_event("no challenger is scored any more", {"model": name})
        elif is_changed and found is not None:
            facts = {"model": name, "version": found.served.version, "share": found.share}
            log_event("a challenger is scored beside the champion", facts)

    async def _look_for_features(self, name: str, failing: set[str]) -> None:
        """Look for newer features of a model. What is wrong is logged once; the current ones stay."""
        try:
            is_new = await asyncio.to_thread(self.registry.refresh_features, name)
        except (LakeError, DataError) as error:
            if name not in failing:
                facts = {"model": name, "reason": str(error)}
                log_event("newer features cannot be served by key", facts, level=logging.ERROR)
            failing.add(name)
            return
        except Exception:  # noqa: BLE001 - whatever it is, the log has it and the search goes on
            LOGGER.exception("the search for newer features failed", extra={"fields": {"model": name}})
            return
        failing.discard(name)
        if is_new and (features := self.registry[name].features) is not None:
            log_event("newer features are served by key", {"model": name, **features.summary})

    async def _report(self, swap: Swap) -> None:
        served = swap.served
        facts = {"model": served.name, "version": served.version, "entry": swap.entry}
        if swap.refused is None:
            log_event("a newer champion is served", {**facts, "golden_rows": served.golden.words})
        else:
            self.metrics.count_refused(served.name)
            log_event("a newer champion is refused", {**facts, "reason": swap.refused}, level=logging.ERROR)
        try:
            await asyncio.to_thread(self.on_swap, swap)
        except Exception:  # noqa: BLE001 - channels of alerts raise errors of many libraries; the service goes on
            LOGGER.exception("the alert about a champion was not sent", extra={"fields": facts})

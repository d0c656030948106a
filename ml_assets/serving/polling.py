"""Polls the promotion log while the service runs, and reports what changes."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ml_assets.lake.errors import LakeError
from ml_assets.serving.logs import LOGGER, log_event
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.registry import POLL_SECONDS, Registry, Swap


@dataclass
class Poller:
    """Looks for newer champions.

    Attributes:
        on_swap: is called, by a thread, with each change of a served version and each refusal.
    """

    registry: Registry
    metrics: Metrics
    on_swap: Callable[[Swap], None] = lambda _: None
    seconds: float = POLL_SECONDS

    async def run(self) -> None:
        """Look for newer champions until the task is cancelled. A log that cannot be read is logged once."""
        unreachable: set[str] = set()
        while True:
            await asyncio.sleep(self.seconds)
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

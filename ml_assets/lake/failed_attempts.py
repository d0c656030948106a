"""Records the cost of failed attempts at a step, so that `cost` can count it.

    runs/<run id>/<step>/<attempt>.failed

If an attempt's process was killed, only its step record exists, and its cost is unknown.
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from ml_assets.lake.resource import last_ledger
from ml_assets.lake.steps import store_failure
from ml_assets.names import LAKE

_FAILED: Final = frozenset({dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY})


def _record(context: dg.HookContext, events: Sequence[dg.DagsterEvent]) -> dg.HookExecutionResult:
    """Write the cost of a failed attempt. Do nothing if it succeeded, or failed before its step record was written.

    `dg.failure_hook` is not called for an attempt that is retried.
    """
    ledger = last_ledger(context.run_id, context.step_key)
    is_failed = any(event.event_type in _FAILED for event in events)
    if not is_failed or ledger is None or ledger.step is None or ledger.recorded_at is None:
        return dg.HookExecutionResult(RECORD.name, is_skipped=True)
    store_failure(ledger.lake, *ledger.step, ledger.meter.take())
    return dg.HookExecutionResult(RECORD.name, is_skipped=False)


RECORD: Final = dg.HookDefinition(
    name="record_failed_attempt", hook_fn=_record, required_resource_keys={LAKE}, decorated_fn=_record
)
"""A hook of every asset that writes to the lake."""

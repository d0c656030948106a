"""The alert about a champion that is not served, through the channels of all other alerts."""

from collections.abc import Callable
from datetime import UTC, datetime

from ml_assets.alerts.alert import Alert
from ml_assets.alerts.settings import AlertSettings
from ml_assets.lake.objects import Objects
from ml_assets.serving.registry import Swap


def alert_refusals(lake: Objects, settings: AlertSettings) -> Callable[[Swap], None]:
    """Return what sends an alert if a swap refuses a champion. All replicas together send one.

    Raises, when it is called:
        AlertSettingsError: a channel's settings are not valid.
        ExtraMissingError: a channel has a URL, but Apprise is not installed.
        LakeError: the lake cannot be written.
    """

    def send(swap: Swap) -> None:
        if swap.refused is not None:
            settings.outbox(lake).send([refusal_alert(swap, datetime.now(tz=UTC))])

    return send


def refusal_alert(swap: Swap, at: datetime) -> Alert:
    """Return the alert about a refused champion."""
    served = swap.served
    return Alert(
        kind="champion_refused",
        subject=served.name,
        title=f"{served.name}: the new champion is not served",
        body=(
            f"The champion of entry {swap.entry} of the promotion log is refused by the prediction service: "
            f"{swap.refused} Version {served.version[:12]} stays. Make the former champion current again: "
            f"ml-assets rollback {served.name} --why REASON."
        ),
        key=f"champion_refused/{served.name}/{swap.entry}",
        occurred_at=at,
        facts={"model": served.name, "entry": swap.entry, "served": served.version},
    )

"""The alerts of the service, through the channels of all others: a refused champion, and degenerate output."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from ml_assets.alerts.alert import Alert
from ml_assets.alerts.settings import AlertSettings
from ml_assets.lake.objects import Objects
from ml_assets.serving.degenerate import Degenerate, Share
from ml_assets.serving.output_watch import Alarm, hour_of
from ml_assets.serving.registry import Swap

_TITLES: Final[Mapping[Degenerate, str]] = {
    "identical_scores": "most scores are identical",
    "default_path": "rows have no known value",
    "unseen_categories": "categories are unseen in training",
    "nulls": "values are missing",
}


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


def alert_degenerate_output(lake: Objects, settings: AlertSettings) -> Callable[[Alarm], None]:
    """Return what sends an alert about an alarm. All replicas together send one for each model, kind and hour.

    Raises, when it is called:
        AlertSettingsError: a channel's settings are not valid.
        ExtraMissingError: a channel has a URL, but Apprise is not installed.
        LakeError: the lake cannot be written.
    """

    def send(alarm: Alarm) -> None:
        settings.outbox(lake).send([degenerate_alert(alarm)])

    return send


def degenerate_alert(alarm: Alarm) -> Alert:
    """Return the alert about degenerate output."""
    served, worst = alarm.served, alarm.found[0]
    since, until = (f"{at:%H:%M:%S}" for at in (alarm.since, alarm.until))
    return Alert(
        kind="degenerate_output",
        subject=served.name,
        title=f"{served.name}: {_TITLES[alarm.what]}",
        body=(
            f"Of {alarm.rows:,} rows that version {served.version[:12]} has scored from {since} to {until} UTC, "
            f"{'; '.join(map(_sentence, alarm.found))}. Look at what the callers send, and at the request log. If it "
            "is as it should be, raise the limit in `serving: {alarms: ...}` of the declaration."
        ),
        key=f"degenerate_output/{served.name}/{alarm.what}/{hour_of(alarm)}",
        occurred_at=alarm.until,
        facts={
            "model": served.name, "version": served.version, "kind": alarm.what, "rows": alarm.rows,
            "field": worst.field, "share": worst.observed, "usual": worst.usual,
        },
    )  # fmt: skip


def _sentence(share: Share) -> str:
    """Return what was found and what is usual."""
    sentences: Mapping[Degenerate, str] = {
        "identical_scores": "have the same score",
        "default_path": "have no value that the model knows",
        "unseen_categories": f"have an unseen category of '{share.field}'",
        "nulls": f"have no '{share.field}'",
    }
    return f"{share.observed:.1%} {sentences[share.what]} (in the training rows up to {share.usual:.1%})"

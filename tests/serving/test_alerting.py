"""The alert about a champion that is refused."""

import pytest

from ml_assets.alerts.settings import AlertSettings
from ml_assets.lake.store import Lake
from ml_assets.serving.alerting import alert_refusals
from ml_assets.serving.registry import Swap
from ml_assets.serving.served_model import ServedModel


def test_replicas_send_one_alert_about_a_refused_champion_and_none_about_a_served_one(
    served: ServedModel, empty_lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    replicas = [alert_refusals(empty_lake, AlertSettings()) for _ in range(2)]
    with caplog.at_level("INFO", logger="ml_assets.alerts"):
        for replica in replicas:
            replica(Swap(served, 1))
            assert not caplog.messages
        for replica in replicas:
            replica(Swap(served, 2, "its golden rows have other scores."))

    [message] = caplog.messages
    for expected in (
        "returns: the new champion is not served", "entry 2 of the promotion log", "its golden rows have other scores.",
        f"Version {served.version[:12]} stays", "ml-assets rollback returns --why REASON",
    ):  # fmt: skip
        assert expected in message

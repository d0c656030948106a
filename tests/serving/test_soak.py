"""The service under promotions and all kinds of clients at once, for some seconds."""

from benchmarks.soak import soak
from tests.stages.shop import Trained


def test_no_answer_is_wrong_and_memory_stays_flat_under_promotions_and_clients_that_break_services(
    trained: Trained,
) -> None:
    found = soak(trained.model, "returns", seconds=20, promote_every=3)

    assert [] == found.problems
    assert found.promotions >= 5
    assert found.growth < 1.15
    statuses = {kind: {status for other, status in found.answers if other == kind} for kind, _ in found.answers}
    assert statuses["one row"] <= {"200", "503"}
    assert found.answers["one row", "200"] > 500
    assert {"408"} <= statuses["slow"]
    assert {"413"} <= statuses["oversized"]
    assert {"503"} <= {status for _, status in found.answers}

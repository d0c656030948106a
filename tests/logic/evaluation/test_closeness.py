"""What is claimed of a model that was trained where no two are alike, and whether it holds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ml_assets.lake.store import Lake
from ml_assets.provenance.reproduction import TOLERANCE, Closeness, Recorded, ReproductionVerdict
from tests.provenance.lakes import shop


def recorded(root: Path, *, workers: int = 1, **parameters: Any) -> Recorded:
    chronicle = shop(root)
    training = next(ref for ref in chronicle.made if ref.asset == "shop/training_set")
    if "training" in parameters:
        parameters["training"] = {"workers": 1, **parameters["training"]}
    made = [training]
    for stage in ("importances", "tuning"):
        searched = {"workers": workers} if stage == "tuning" else {}
        made.append(chronicle.make(f"shop/{stage}", None, [*made], parameters=searched))
    model = chronicle.make("shop/model", None, made, parameters=parameters, rows=None)
    return Recorded.of(Lake(str(chronicle.root)), "shop", model, "training_set")


def verdict(*, is_equal: bool, now: float | None = None) -> ReproductionVerdict:
    return ReproductionVerdict(
        model="shop", version="a" * 32, start="training_set", is_equal=is_equal, outcomes=(), environment="e",
        seconds=1.0, decided_at=datetime(2026, 11, 1, tzinfo=UTC),
        closeness=None if now is None else Closeness.of("device 'cuda'", "roc_auc", original=0.8, reproduced=now),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"training": {"device": "cpu"}, "seed": 1}, None),
        ({"seed": 1}, None),
        ({"training": {"device": "cuda"}}, "device 'cuda'"),
        ({"training": {"device": "cpu", "workers": 4}}, "4 workers"),
        ({"training": {"device": "gpu", "workers": 2}}, "device 'gpu' and 2 workers"),
        # It fell back, and was trained on the CPU in the end.
        ({"training": {"device": "cuda"}, "trained_on": "cpu", "fell_back": "no driver"}, None),
    ],
)
def test_equal_bytes_are_required_of_models_trained_by_one_process_on_a_cpu(
    parameters: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    assert expected == recorded(tmp_path, **parameters).inexact("training_set")


def test_a_search_by_several_workers_is_not_reproduced_exactly(tmp_path: Path) -> None:
    model = recorded(tmp_path, workers=3, training={"device": "cuda"})

    assert "device 'cuda'" == model.inexact("training_set")
    assert "device 'cuda' and a search by 3 workers" == model.inexact("raw")
    assert recorded(tmp_path / "other").inexact("raw") is None


def test_within_the_tolerance_a_model_counts_as_reproduced_and_beyond_it_does_not() -> None:
    inside, outside = 0.8 * (1 + 0.9 * TOLERANCE), 0.8 * (1 - 1.1 * TOLERANCE)

    assert verdict(is_equal=True).is_reproduced
    assert not verdict(is_equal=False).is_reproduced
    assert verdict(is_equal=False, now=inside).is_reproduced
    assert not verdict(is_equal=False, now=outside).is_reproduced


def test_the_message_has_the_claim_and_both_figures() -> None:
    assert (
        "trained on device 'cuda', which never results in identical bytes: roc_auc is 0.80100, was 0.80000; "
        "expected within 1%"
    ) == Closeness.of("device 'cuda'", "roc_auc", original=0.8, reproduced=0.801).sentence


def test_a_verdict_from_before_there_were_tolerances_is_still_read() -> None:
    text = verdict(is_equal=True).model_dump_json(exclude={"closeness"})

    assert verdict(is_equal=True) == ReproductionVerdict.model_validate_json(text)

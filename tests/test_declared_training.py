"""What a declaration may say of workers and devices, and that what it need not say changes no manifest."""

import pytest
from pydantic import ValidationError

from ml_assets.declaration.training import TrainingSettings, TuningSettings


def test_what_came_later_is_written_only_where_it_is_declared() -> None:
    assert {"unseen": "missing", "threads": 2, "device": "cpu"} == TrainingSettings().model_dump(mode="json")
    assert "workers" not in TuningSettings().model_dump(mode="json")

    declared = TrainingSettings(device="cuda", device_fallback="cpu", workers=2)

    assert {
        "unseen": "missing", "threads": 2, "device": "cuda", "device_fallback": "cpu", "workers": 2,
    } == declared.model_dump(mode="json")  # fmt: skip
    assert declared == TrainingSettings.model_validate(declared.model_dump())


def test_a_fall_back_needs_something_to_fall_back_from() -> None:
    with pytest.raises(ValidationError, match="'device_fallback' goes with device 'gpu' or 'cuda'; leave it out"):
        TrainingSettings(device_fallback="cpu")


@pytest.mark.parametrize("workers", [0, 257])
def test_there_is_at_least_one_worker_and_no_crowd(workers: int) -> None:
    with pytest.raises(ValidationError, match="workers"):
        TuningSettings(workers=workers)
    with pytest.raises(ValidationError, match="workers"):
        TrainingSettings(workers=workers)

"""What a declaration may say of workers and devices, and that what it need not say changes no manifest."""

import pytest
from pydantic import ValidationError

from ml_assets.declaration.training import TrainingSettings
from ml_assets.declaration.tuning import TuningSettings


def test_a_fall_back_needs_something_to_fall_back_from() -> None:
    with pytest.raises(ValidationError, match="'device_fallback' goes with device 'gpu' or 'cuda'; leave it out"):
        TrainingSettings(device_fallback="cpu")


@pytest.mark.parametrize("workers", [0, 257])
def test_there_is_at_least_one_worker_and_no_crowd(workers: int) -> None:
    with pytest.raises(ValidationError, match="workers"):
        TuningSettings(workers=workers)
    with pytest.raises(ValidationError, match="workers"):
        TrainingSettings(workers=workers)

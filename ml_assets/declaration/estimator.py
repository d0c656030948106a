"""What a declaration may say about parameters and devices: with LightGBM, and with another estimator."""

from collections.abc import Iterator

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.boosting_parameters import parameter_problems
from ml_assets.declaration.training import TrainingSettings
from ml_assets.declaration.tuning import TuningSettings


def estimator_conflicts(
    task: Task, training: TrainingSettings, tuning: TuningSettings
) -> Iterator[tuple[tuple[str, ...], object, str]]:
    """Yield what LightGBM, or the declared estimator, cannot use: the field, its value, and why."""
    if training.estimator is None:
        for name, problem in parameter_problems(tuning.fixed):
            yield ("tuning", "fixed", name), tuning.fixed[name], problem
        return
    if task == "ranking":
        yield ("training", "estimator"), training.estimator, "a ranking is trained by LightGBM only; leave it out"
    for name in ("device", "device_fallback", "workers"):
        if name in training.model_fields_set:
            why = f"'{name}' is LightGBM's; an estimator is trained on the CPU of one process; leave it out"
            yield ("training", name), getattr(training, name), why
    for name in ("max_rounds", "early_stopping_rounds"):
        if name in tuning.model_fields_set:
            why = f"'{name}' is LightGBM's; an estimator has its own parameters in tuning.fixed; leave it out"
            yield ("tuning", name), getattr(tuning, name), why

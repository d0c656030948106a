"""LightGBM's parameters: defaults, chosen and fixed ones.

Not here: tuning them (see `ml_assets.logic.training.tuning`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from ml_assets.contracts.artifacts import Task
from ml_assets.contracts.boosting_parameters import main_name, parameter_problems
from ml_assets.contracts.errors import ContractError

Parameters = dict[str, float | int | str | bool]
Device = Literal["cpu", "gpu", "cuda"]

DEFAULTS: Final[Mapping[str, float | int | str | bool]] = {
    "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 100, "feature_fraction": 0.7, "bagging_fraction": 0.8,
    "bagging_freq": 1, "lambda_l2": 1.0, "cat_smooth": 20.0,
}  # fmt: skip
"""Defaults for 10^5 to 10^6 rows, and the first trial of every study."""

BINNING: Final[Mapping[str, float | int | str | bool]] = {
    "max_bin": 255,
    "min_data_in_bin": 3,
    "bin_construct_sample_cnt": 200_000,
    # With True, binning would drop features by the first trial's min_data_in_leaf, and later trials could not lower it.
    "feature_pre_filter": False,
}
"""Fixed when rows are binned, so that one binned data set is valid for every trial."""

_OBJECTIVES: Final[Mapping[Task, str]] = {"binary": "binary", "regression": "regression", "multiclass": "multiclass"}


def canonical_parameters(parameters: Mapping[str, float | int | str | bool]) -> Parameters:
    """Return parameters under LightGBM's main names, so that an alias replaces a default.

    LightGBM itself ignores unknown parameters if it does not log.

    Raises:
        ContractError: A parameter cannot be set, or is given twice.
    """
    if problems := [problem for _, problem in parameter_problems(parameters)]:
        raise ContractError(f"LightGBM parameters: {'; '.join(problems)}. Correct them in the model's declaration.")
    return {main_name(name): value for name, value in parameters.items()}


def full_parameters(
    task: Task,
    parameters: Mapping[str, float | int | str | bool],
    *,
    classes: Sequence[str] = (),
    seed: int,
    threads: int,
    device: Device = "cpu",
    metric: str = "None",
) -> Parameters:
    """Return all LightGBM parameters: defaults, chosen values, and those that make it deterministic.

    The trees do not depend on the number of threads. Only the device "cpu" is deterministic. `metric` is LightGBM's
    name of the validation metric, or "None".

    Raises:
        ContractError: Parameters are unknown, reserved or contradict each other.
    """
    run: Parameters = {"seed": seed, "num_threads": threads, "device_type": device}
    chosen = canonical_parameters(parameters)
    clash = {name: chosen[name] for name in run if name in chosen and chosen[name] != run[name]}
    if clash:
        got = ", ".join(f"{name}={value} (run with {run[name]})" for name, value in clash.items())
        raise ContractError(
            f"LightGBM parameters: {got}. Set seed, threads and device in the model's declaration only."
        )
    fixed: Parameters = {
        "objective": _OBJECTIVES[task],
        "metric": metric,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **run,
    }
    if task == "multiclass":
        fixed["num_class"] = len(classes)
    return {**DEFAULTS, **BINNING, **chosen, **fixed}

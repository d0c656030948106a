"""LightGBM's parameters: which may be set, their aliases, our defaults and ranges, and the full set of a training.

Parameters that open files or sockets (`forcedsplits_filename`, `machines`, ...), or that belong to LightGBM's command
line, cannot be set. A test compares the names with LightGBM's table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ml_assets.contracts.errors import ContractError, near

if TYPE_CHECKING:
    from ml_assets.contracts.artifacts.training import Task
    from ml_assets.contracts.objective import Objective

_WITHOUT_ALIAS: Final = (
    "bagging_by_query", "boost_from_average", "cat_l2", "cat_smooth",
    "cegb_penalty_feature_coupled", "cegb_penalty_feature_lazy",
    "cegb_penalty_split", "cegb_tradeoff", "data_sample_strategy", "drop_seed", "extra_seed", "feature_fraction_seed",
    "gpu_device_id", "gpu_device_id_list", "gpu_platform_id", "gpu_use_dp", "interaction_constraints",
    "lambdarank_norm", "linear_lambda",
    "max_bin_by_feature", "max_cat_threshold", "max_cat_to_onehot", "max_depth", "max_drop", "min_data_in_bin",
    "min_data_per_group", "num_gpu", "num_grad_quant_bins", "other_rate", "path_smooth", "quant_train_renew_leaf",
    "reg_sqrt", "scale_pos_weight", "sigmoid", "skip_drop", "stochastic_rounding", "top_rate", "uniform_drop",
    "use_missing", "use_quantized_grad", "xgboost_dart_mode", "zero_as_missing",
)  # fmt: skip
SETTABLE: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_WITHOUT_ALIAS, ()),
    "bagging_fraction": ("bagging", "sub_row", "subsample"),
    "bagging_freq": ("subsample_freq",),
    "bagging_seed": ("bagging_fraction_seed",),
    "bin_construct_sample_cnt": ("subsample_for_bin",),
    "boosting": ("boost", "boosting_type"),
    "data_random_seed": ("data_seed",),
    "device_type": ("device",),
    "drop_rate": ("rate_drop",),
    "enable_bundle": ("bundle", "is_enable_bundle"),
    "extra_trees": ("extra_tree",),
    "feature_contri": ("fc", "feature_contrib", "feature_penalty", "fp"),
    "feature_fraction": ("colsample_bytree", "sub_feature"),
    "feature_fraction_bynode": ("colsample_bynode", "sub_feature_bynode"),
    "histogram_pool_size": ("hist_pool_size",),
    "is_enable_sparse": ("enable_sparse", "is_sparse", "sparse"),
    "is_unbalance": ("unbalance", "unbalanced_sets"),
    "lambda_l1": ("l1_regularization", "reg_alpha"),
    "lambda_l2": ("l2_regularization", "lambda", "reg_lambda"),
    "learning_rate": ("eta", "shrinkage_rate"),
    "linear_tree": ("linear_trees",),
    "max_bin": ("max_bins",),
    "max_delta_step": ("max_leaf_output", "max_tree_output"),
    "min_data_in_leaf": ("min_child_samples", "min_data", "min_data_per_leaf", "min_samples_leaf"),
    "min_gain_to_split": ("min_split_gain",),
    "min_sum_hessian_in_leaf": ("min_child_weight", "min_hessian", "min_sum_hessian", "min_sum_hessian_per_leaf"),
    "monotone_constraints": ("mc", "monotone_constraint", "monotonic_cst"),
    "monotone_constraints_method": ("mc_method", "monotone_constraining_method"),
    "monotone_penalty": ("mc_penalty", "monotone_splits_penalty", "ms_penalty"),
    "neg_bagging_fraction": ("neg_bagging", "neg_sub_row", "neg_subsample"),
    "num_leaves": ("max_leaf", "max_leaf_nodes", "max_leaves", "num_leaf"),
    "num_threads": ("n_jobs", "nthread", "nthreads", "num_thread"),
    "pos_bagging_fraction": ("pos_bagging", "pos_sub_row", "pos_subsample"),
    "seed": ("random_seed", "random_state"),
}
"""LightGBM's aliases, by main name."""

DERIVED: Final[Mapping[str, tuple[str, ...]]] = {
    "alpha": (),
    "categorical_feature": ("cat_column", "cat_feature", "categorical_column", "categorical_features"),
    "deterministic": (),
    "early_stopping_round": ("early_stopping", "early_stopping_rounds", "n_iter_no_change"),
    "eval_at": ("map_at", "map_eval_at", "ndcg_at", "ndcg_eval_at"),
    "feature_pre_filter": (),
    "force_col_wise": (),
    "force_row_wise": (),
    "lambdarank_truncation_level": (),
    "metric": ("metric_types", "metrics"),
    "num_class": ("num_classes",),
    "num_iterations": (
        "max_iter", "n_estimators", "n_iter", "nrounds", "num_boost_round", "num_iteration", "num_round", "num_rounds",
        "num_tree", "num_trees",
    ),
    "objective": ("app", "application", "loss", "objective_type"),
    "tweedie_variance_power": (),
    "verbosity": ("verbose",),
}  # fmt: skip
"""Parameters that follow from other fields of the declaration."""

_MAIN: Final = {name: main for table in (SETTABLE, DERIVED) for main in table for name in (main, *table[main])}
# LightGBM reads parameters as words name=value, so a blank in a value would begin another parameter.
_TEXT: Final = re.compile(r"[\w.,:\[\]+-]*", re.ASCII)
_NOT_FINITE: Final = frozenset({"nan", "na", "null", "inf", "infinity"})

Parameters = dict[str, float | int | str | bool]
Device = Literal["cpu", "gpu", "cuda"]


@dataclass(frozen=True)
class Conditions:
    """What LightGBM runs with, whatever the parameters of the model.

    On the device "cpu", equal seeds give equal trees, whatever the number of threads. The other devices are not
    deterministic.
    """

    seed: int
    threads: int = 2
    device: Device = "cpu"


@dataclass(frozen=True)
class Range:
    """The range in which a parameter is searched, including both ends."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False


DEFAULTS: Final[Mapping[str, float | int | str | bool]] = {
    "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 100, "feature_fraction": 0.7, "bagging_fraction": 0.8,
    "bagging_freq": 1, "lambda_l2": 1.0, "cat_smooth": 20.0,
}  # fmt: skip
"""Defaults for many rows, and the first trial of every study on them."""

MANY_ROWS: Final = 40_000
"""Train rows from which on defaults and search space stay the same."""


def defaults_for(rows: int) -> Parameters:
    """Return the defaults for a number of train rows: the smallest leaf grows with the root of the rows.

    A leaf of 100 rows of 300 would leave nothing to split.
    """
    if rows >= MANY_ROWS:
        return dict(DEFAULTS)
    leaf = max(5, round(math.sqrt(rows) / 2))
    return {**DEFAULTS, "min_data_in_leaf": leaf, "num_leaves": min(31, max(8, rows // 50))}


SPACE: Final[Mapping[str, Range]] = {
    "learning_rate": Range(0.05, 0.2, is_log=True),
    "num_leaves": Range(15, 127, is_log=True, is_whole=True),
    "min_data_in_leaf": Range(20, 500, is_log=True, is_whole=True),
    "feature_fraction": Range(0.4, 1.0),
    "bagging_fraction": Range(0.5, 1.0),
    "lambda_l2": Range(0.01, 30.0, is_log=True),
    "cat_smooth": Range(5.0, 100.0, is_log=True),
}
"""The ranges for many rows. `cat_smooth` is searched only if there are categorical features."""


def space_of(rows: int) -> Mapping[str, Range]:
    """Return the ranges for a number of train rows: of few rows, small leaves and few of them, learned slowly.

    From 40,000 rows on it is `SPACE`.
    """
    if rows >= MANY_ROWS:
        return SPACE
    default = int(defaults_for(rows)["min_data_in_leaf"])
    return {
        **SPACE,
        "learning_rate": Range(0.02, 0.2, is_log=True),
        "num_leaves": Range(4, min(127, max(31, rows // 20)), is_log=True, is_whole=True),
        "min_data_in_leaf": Range(
            min(20, max(2, default // 3)), min(500, max(20, rows // 10)), is_log=True, is_whole=True
        ),
    }


BINNING: Final[Mapping[str, float | int | str | bool]] = {
    "max_bin": 255,
    "min_data_in_bin": 3,
    "bin_construct_sample_cnt": 200_000,
    # With True, binning would drop features by the first trial's min_data_in_leaf, and later trials could not lower it.
    "feature_pre_filter": False,
}
"""Fixed when rows are binned, so that one binned data set is valid for every trial."""

_OBJECTIVES: Final[Mapping[Task, str]] = {
    "binary": "binary", "regression": "regression", "multiclass": "multiclass", "ranking": "lambdarank",
}  # fmt: skip


def parameter_problems(parameters: Mapping[str, float | int | str | bool]) -> Iterator[tuple[str, str]]:
    """Yield each parameter that cannot be set, with the reason as a sentence without its full stop."""
    seen: dict[str, str] = {}
    for name, value in parameters.items():
        main = _MAIN.get(name)
        if main is None:
            yield name, f"'{name}' is not a LightGBM parameter that can be set{near(name, list(SETTABLE))}"
        elif main in DERIVED:
            yield name, f"'{name}' follows from the declaration's task, objective, metric and budget; it cannot be set"
        elif main in seen:
            yield name, f"'{name}' is an alias of '{seen[main]}', which is set too"
        elif str(value).lower().strip("+-") in _NOT_FINITE:
            yield name, f"'{name}': expected a finite number, got {value}"
        elif isinstance(value, str) and not _TEXT.fullmatch(value):
            yield name, f"'{name}': expected letters, digits and .,:[]+-_ without blanks, got {value!r}"
        else:
            seen[main] = name


def canonical_parameters(parameters: Mapping[str, float | int | str | bool]) -> Parameters:
    """Return parameters under LightGBM's main names, so that an alias replaces a default.

    LightGBM itself ignores unknown parameters if it does not log.

    Raises:
        ContractError: A parameter cannot be set, or is given twice.
    """
    if problems := [problem for _, problem in parameter_problems(parameters)]:
        raise ContractError(f"LightGBM parameters: {'; '.join(problems)}. Correct them in the model's declaration.")
    return {_MAIN[name]: value for name, value in parameters.items()}


def full_parameters(
    task: Task,
    parameters: Mapping[str, float | int | str | bool],
    conditions: Conditions,
    *,
    classes: Sequence[str] = (),
    objective: Objective | None = None,
    metric: str = "None",
) -> Parameters:
    """Return all LightGBM parameters: defaults, chosen values, and those that make it deterministic.

    `metric` is LightGBM's name of the validation metric, or "None".

    Raises:
        ContractError: Parameters are unknown, reserved or contradict each other.
    """
    run: Parameters = {
        "seed": conditions.seed, "num_threads": conditions.threads, "device_type": conditions.device,
    }  # fmt: skip
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
    if objective is not None:
        fixed |= objective.lightgbm
    return {**DEFAULTS, **BINNING, **chosen, **fixed}

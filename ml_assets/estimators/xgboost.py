"""XGBoost with histograms on the CPU, stored as XGBoost's JSON. It needs the extra `xgboost`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.boosting_parameters import Range
from ml_assets.contracts.estimator import EncodedRows, Estimator, FitContext, Parameter
from ml_assets.contracts.objective import Objective

if TYPE_CHECKING:
    import xgboost

_ROUNDING = 1e-4
"""The maximum rounding error of a target, as a share of its standard deviation."""


class XGBoost(Estimator):
    """Gradient boosted trees. Equal seeds give equal trees, whatever the number of threads.

    XGBoost rounds numbers to float32.
    """

    defaults: ClassVar = {
        "rounds": 500, "early_stopping_rounds": 30, "learning_rate": 0.1, "max_depth": 6, "min_child_weight": 20.0,
        "subsample": 0.8, "colsample_bytree": 0.7, "reg_lambda": 1.0, "max_bin": 256,
    }  # fmt: skip
    space: ClassVar = {
        "learning_rate": Range(0.05, 0.2, is_log=True),
        "max_depth": Range(3, 9, is_whole=True),
        "min_child_weight": Range(1.0, 300.0, is_log=True),
        "subsample": Range(0.5, 1.0),
        "colsample_bytree": Range(0.4, 1.0),
        "reg_lambda": Range(0.01, 30.0, is_log=True),
    }
    packages: ClassVar = ("xgboost",)
    losses: ClassVar = ("mse", "mae", "poisson", "tweedie", "quantile")

    def __init__(self, booster: xgboost.Booster, chosen: dict[str, Parameter] | None = None) -> None:
        self._booster = booster
        self._chosen = chosen or {}

    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Self:
        """Train until the loss of the validation rows stops improving, or for `rounds` without such rows."""
        import xgboost

        kinds = ["c" if it.is_categorical else "q" for it in context.features]
        parameters: dict[str, Any] = {
            **context.parameters, **_objective(context), "tree_method": "hist", "seed": context.seed,
            "nthread": context.threads,
        }  # fmt: skip
        rounds, stopping = int(parameters.pop("rounds")), int(parameters.pop("early_stopping_rounds"))
        spread = float(train.target.std())
        data = [_data(it, kinds, context, spread) for it in (train, *([] if validation is None else [validation]))]
        booster = xgboost.train(
            parameters, data[0], rounds, evals=[(it, "validation") for it in data[1:]],
            early_stopping_rounds=stopping if data[1:] else None, verbose_eval=False,
        )  # fmt: skip
        if validation is None:
            return cls(booster)
        used = booster.best_iteration + 1
        return cls(booster[:used], {"rounds": used})

    @property
    def chosen(self) -> dict[str, Parameter]:
        """The number of rounds."""
        return self._chosen

    def predict(self, matrix: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
        """Return probabilities or values."""
        import xgboost

        kinds = self._booster.feature_types
        data = xgboost.DMatrix(matrix, feature_types=kinds, enable_categorical=True, nthread=threads)
        return np.asarray(self._booster.predict(data), dtype=np.float64)

    def to_text(self) -> str:
        """Return XGBoost's JSON."""
        return bytes(self._booster.save_raw("json")).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the model of XGBoost's JSON."""
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(text.encode()))
        return cls(booster)


def _objective(context: FitContext) -> dict[str, Any]:
    if context.task == "binary":
        return {"objective": "binary:logistic"}
    if context.task == "multiclass":
        return {"objective": "multi:softprob", "num_class": len(context.classes)}
    wanted = context.objective or Objective()
    found: dict[str, dict[str, Any]] = {
        "mse": {"objective": "reg:squarederror"},
        "mae": {"objective": "reg:absoluteerror"},
        "poisson": {"objective": "count:poisson"},
        "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": wanted.variance_power},
        "quantile": {"objective": "reg:quantileerror", "quantile_alpha": wanted.alpha},
    }
    return found[wanted.loss]


def _data(rows: EncodedRows, kinds: list[str], context: FitContext, spread: float) -> xgboost.DMatrix:
    """Return rows as XGBoost takes them; `spread` is the standard deviation of the target of the train rows.

    Raises:
        ValueError: it would round the target too much.
    """
    import xgboost

    target = rows.target
    if context.task == "regression" and np.abs(target - target.astype(np.float32)).max() > _ROUNDING * spread:
        raise ValueError(
            f"XGBoost rounds the target to float32, which loses more than {_ROUNDING:.0e} of its standard deviation; "
            "subtract a constant in the label table"
        )
    return xgboost.DMatrix(
        rows.matrix, label=target, weight=rows.weights, feature_types=kinds, enable_categorical=True,
        nthread=context.threads,
    )  # fmt: skip

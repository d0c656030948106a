"""Train LightGBM over Dask: the rows of one model are distributed over several workers, by LightGBM's integration.

Not here: the cluster (see `ml_assets.workers.dask`). This process holds all rows and sends them out, so workers save
time and memory of the fit only. Bin edges are computed from parts of the rows, so the model differs from one that a
single process trains, and its metrics differ slightly.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.boosting_parameters import Parameters
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.logic.training.booster import booster_of, booster_text, text_names
from ml_assets.logic.training.encoding import Matrix, Vector
from ml_assets.logic.training.model import Trainer

if TYPE_CHECKING:
    from lightgbm import Booster

_ADDRESSES: Final = re.compile(r"^\[(machines|local_listen_port): .*\]\n", re.MULTILINE)

# scikit-learn's names of parameters. If both names are given, LightGBM takes scikit-learn's defaults.
_NAMES: Final = {
    "min_data_in_leaf": "min_child_samples",
    "bagging_fraction": "subsample",
    "bagging_freq": "subsample_freq",
    "feature_fraction": "colsample_bytree",
    "lambda_l1": "reg_alpha",
    "lambda_l2": "reg_lambda",
    "bin_construct_sample_cnt": "subsample_for_bin",
    "min_sum_hessian_in_leaf": "min_child_weight",
    "min_gain_to_split": "min_split_gain",
    "boosting": "boosting_type",
    "seed": "random_state",
}


def boost_on(client: Any, workers: int) -> Trainer:  # noqa: ANN401 - Dask is no dependency
    """Return a trainer that uses at most a number of workers of a `distributed.Client`."""

    def train(rows: EncodedRows, features: Sequence[Feature], full: Parameters, rounds: int) -> Booster:
        import lightgbm

        chosen = sorted(client.scheduler_info(n_workers=-1)["workers"])[:workers]
        # Its classifier would renumber the classes by those in the rows; the objective states what is trained.
        # Each worker decides its own number of threads.
        named: dict[str, Any] = {_NAMES.get(name, name): full[name] for name in full if name != "num_threads"}
        model = lightgbm.DaskLGBMRegressor(client=client, n_estimators=rounds, **named)
        matrix, target = _spread(client, rows.matrix, chosen), _spread(client, rows.target, chosen)
        with warnings.catch_warnings():
            # This warning is issued at every fit, even if nobody sets the parameter.
            warnings.filterwarnings("ignore", message="Parameter n_jobs will be ignored", category=UserWarning)
            model.fit(
                matrix,
                target,
                sample_weight=None if rows.weights is None else _spread(client, rows.weights, chosen),
                feature_name=text_names(features),
                categorical_feature=[index for index, feature in enumerate(features) if feature.is_categorical],
            )
        # The workers' addresses are not part of the model.
        return booster_of(_ADDRESSES.sub("", booster_text(model.booster_)))

    return train


def _spread(client: Any, rows: Matrix | Vector, workers: Sequence[str]) -> Any:  # noqa: ANN401 - Dask is no dependency
    """Return rows as a Dask array with one part on each worker."""
    import dask.array

    parts = np.array_split(rows, len(workers))
    futures = [client.scatter(part, workers=[worker]) for part, worker in zip(parts, workers, strict=True)]
    return dask.array.concatenate(
        [
            dask.array.from_delayed(future, shape=part.shape, dtype=part.dtype)
            for future, part in zip(futures, parts, strict=True)
        ]
    )

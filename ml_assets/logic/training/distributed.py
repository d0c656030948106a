"""LightGBM over Dask: the rows of one model spread over several workers, by LightGBM's own integration.

Which cluster that is stays out, see `ml_assets.workers.dask`. The rows go out from this process, which holds them;
what is spared is time, and the workers' memory. Borders of bins come from parts of the rows, so the model is another
than one process would train, and its metrics differ by a little.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ml_assets.contracts.artifacts import Feature
from ml_assets.logic.training.encoding import Matrix, Vector
from ml_assets.logic.training.model import Trainer, text_names
from ml_assets.logic.training.parameters import Parameters

if TYPE_CHECKING:
    from lightgbm import Booster

_ADDRESSES: Final = re.compile(r"^\[(machines|local_listen_port): .*\]\n", re.MULTILINE)

# scikit-learn's words for what LightGBM has its own: given both, it takes scikit-learn's defaults.
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
    """Return what trains over a Dask cluster.

    Args:
        client: A `distributed.Client`.
        workers: Over how many of its workers, at most.
    """

    def train(matrix: Matrix, target: Vector, features: Sequence[Feature], told: Parameters, rounds: int) -> Booster:
        import lightgbm

        chosen = sorted(client.scheduler_info(n_workers=-1)["workers"])[:workers]
        # Its classifier would number the classes anew by those that the rows have; the objective says what is trained.
        # How many threads there are is each worker's own affair.
        named: dict[str, Any] = {_NAMES.get(name, name): told[name] for name in told if name != "num_threads"}
        model = lightgbm.DaskLGBMRegressor(client=client, n_estimators=rounds, **named)
        rows, truth = _spread(client, matrix, chosen), _spread(client, target, chosen)
        with warnings.catch_warnings():
            # Told of every fit, whether or not somebody has set it.
            warnings.filterwarnings("ignore", message="Parameter n_jobs will be ignored", category=UserWarning)
            model.fit(
                rows,
                truth,
                feature_name=text_names(features),
                categorical_feature=[index for index, feature in enumerate(features) if feature.is_categorical],
            )
        # What the workers' addresses were says nothing of the model.
        text = _ADDRESSES.sub("", model.booster_.model_to_string(num_iteration=-1))
        return lightgbm.Booster(model_str=text)

    return train


def _spread(client: Any, rows: Matrix | Vector, workers: Sequence[str]) -> Any:  # noqa: ANN401 - Dask is no dependency
    """Return rows as a Dask array of as many parts as there are workers, one on each."""
    import dask.array

    parts = np.array_split(rows, len(workers))
    futures = [client.scatter(part, workers=[worker]) for part, worker in zip(parts, workers, strict=True)]
    return dask.array.concatenate(
        [
            dask.array.from_delayed(future, shape=part.shape, dtype=part.dtype)
            for future, part in zip(futures, parts, strict=True)
        ]
    )

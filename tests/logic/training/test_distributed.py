"""Training over Dask; what needs the extra is skipped where it is not installed."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from ml_assets import extras
from ml_assets.contracts.artifacts.training import Model, Task, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.extras import ExtraMissingError
from ml_assets.logic.evaluation.closeness import metric_on_test_rows
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.distributed import boost_on
from ml_assets.logic.training.model import Trainer, fit
from ml_assets.settings import SettingsError
from ml_assets.workers.dask import DASK, dask_client
from tests.logic.training.test_tuning import NAMES, training
from tests.records import record

HAS_DASK = importlib.util.find_spec("distributed") is not None and importlib.util.find_spec("sklearn") is not None
with_dask = pytest.mark.skipif(not HAS_DASK, reason="the extra is not installed; pip install 'ml-assets[dask]'")

TOLERANCE = 0.005
"""Of the metric, with 20,000 train rows over two workers: borders of bins are found in parts of the rows."""


def fitted(data: TrainingSet, trainer: Trainer | None = None) -> Model:
    wanted = record(TunedParameters, features=NAMES, parameters={}, rounds=40)
    return fit(data, wanted, Conditions(seed=3, threads=1), trainer=trainer)


def test_without_the_extra_the_error_names_the_packages_and_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name in {"dask", "pandas"} else name)

    with pytest.raises(ExtraMissingError) as caught, dask_client(4, threads=1):
        pytest.fail("there is no Dask")

    assert str(caught.value) == (
        "training over 4 workers needs the packages dask, pandas, which are not installed; training: {workers: 1} "
        "needs none of them. Install the extra: pip install 'ml-assets[dask]'"
    )


def test_the_trainer_gets_the_encoded_train_rows_and_the_model_is_built_from_its_result() -> None:
    data, given = training(), list[Any]()
    one = fitted(data)

    def trainer(*arguments: Any) -> Any:
        import lightgbm

        given.extend(arguments)
        return lightgbm.Booster(model_str=one.booster)

    other = fitted(data, trainer)

    encoded, features, parameters, rounds = given
    assert ((900, 3), (900,), None, 40) == (encoded.matrix.shape, encoded.target.shape, encoded.weights, rounds)
    assert (NAMES, "binary") == ([feature.name for feature in features], parameters["objective"])
    assert (one.spec, one.booster) == (other.spec, other.booster)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with dask_client(2, threads=1) as found:
        yield found


@with_dask
@pytest.mark.parametrize(
    ("task", "metric"), [("binary", "roc_auc"), ("regression", "rmse"), ("multiclass", "multi_log_loss")]
)
def test_a_model_of_two_workers_is_as_good_as_that_of_one_process(task: Task, metric: str, client: Any) -> None:
    data = training(task, count=30_000)
    split = pl.when(pl.int_range(pl.len()) < 20_000).then(pl.lit("train")).otherwise(pl.lit("test")).alias("split")
    many = TrainingSet(rows=data.rows.with_columns(split), summary=data.summary)

    alone, together = fitted(many), fitted(many, boost_on(client, 2))

    expected = metric_on_test_rows(alone, many, metric)
    assert expected == pytest.approx(metric_on_test_rows(together, many, metric), rel=TOLERANCE)
    assert "[num_machines: 2]" in together.booster
    assert "machines: 127" not in together.booster
    assert (alone.spec.features, alone.spec.vocabularies) == (together.spec.features, together.spec.vocabularies)


@with_dask
def test_the_workers_train_on_the_weights_of_their_rows(client: Any) -> None:
    data = training("regression", count=30_000)
    seats = pl.when(pl.col("late") > 1).then(9.0).otherwise(1.0).alias("seats")
    split = pl.when(pl.int_range(pl.len()) < 20_000).then(pl.lit("train")).otherwise(pl.lit("test")).alias("split")
    many = TrainingSet(data.rows.with_columns(seats, split), data.summary.model_copy(update={"weight": "seats"}))

    alone, together = (predict(it, many.rows)["score"] for it in (fitted(many), fitted(many, boost_on(client, 2))))

    assert pytest.approx(alone.mean(), rel=0.02) == together.mean()  # without weights it is near 0


@with_dask
def test_an_unreachable_scheduler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.config

    monkeypatch.setenv(DASK, "tcp://127.0.0.1:9")
    quickly = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with quickly, pytest.raises(SettingsError, match=f"scheduler that {DASK} names cannot"), dask_client(2, threads=1):
        pytest.fail("nobody listens there")

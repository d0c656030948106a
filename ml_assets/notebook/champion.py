"""The current champion of a model, for services and notebooks: it needs the lake, neither the project nor Dagster."""

from dataclasses import dataclass

import polars as pl

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.table import TableContract
from ml_assets.lake.store import Lake
from ml_assets.logic.monitoring.predictions import check_rows, check_scores, contract_of
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import shap_values
from ml_assets.logic.training.golden_rows import check_golden_rows
from ml_assets.notebook.artifacts import model_of_champion, open_lake
from ml_assets.project import add_project_to_path


@dataclass(frozen=True)
class LoadedChampion:
    """A champion with its version.

    It stays the same when another version is promoted; load it again to follow the promotion log.
    """

    version: str
    model: Model

    @property
    def contract(self) -> TableContract:
        """The contract of the features that the champion reads, as it was trained with them."""
        return contract_of(self.model)

    def predict(self, rows: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
        """Return the champion's scores, equal to those of the asset `predictions` for the same features.

        Rows are checked against `contract`: nothing is converted or filled. Other columns are ignored.

        Args:
            rows: the features, one row per prediction.
            threads: the number of threads; it changes no result.

        Returns:
            In the order of the rows: `score`, and the other columns of `ml_assets.logic.training.booster.predict`.

        Raises:
            ContractError: columns are missing or have the wrong type, or rows break a rule; all are listed.
            DataError: a category is unseen, if the declaration makes that an error, or a row has no score.
        """
        scores = predict(self.model, check_rows(rows, self.model), threads=threads)
        check_scores(scores, self.model.spec)
        return scores

    def explain(self, rows: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
        """Return what each feature adds to the score of each row.

        See `ml_assets.logic.training.booster_importances.shap_values`.

        Args:
            rows: the features, one row per prediction.
            threads: the number of threads.

        Raises:
            ContractError: columns are missing or have the wrong type, or rows break a rule; all are listed.
            DataError: the estimator is not LightGBM, or a category is unseen, if the declaration makes that an error.
        """
        return shap_values(self.model, check_rows(rows, self.model), threads=threads)


def load_champion(model: str, *, lake: str | Lake | None = None) -> LoadedChampion:
    """Return the current champion of a model by its promotion log, which is verified first, as are its golden rows.

    Within a project, its packages can be imported from then on, because a champion of your own estimator needs it.

    Args:
        model: the model.
        lake: the lake or its address; by default that of `ML_ASSETS_LAKE`, else the folder `.lake` of the project.

    Raises:
        DataError: there is no champion, or it gives its golden rows other scores than when it was trained.
        ContractError: its estimator does not exist here.
        CorruptArtifactError: the promotion log or the model is damaged.
    """
    place = open_lake(lake)
    add_project_to_path()
    ref = model_of_champion(place, model)
    found: Model = place.get(ref, Model)
    check_golden_rows(found, version=ref.version)
    return LoadedChampion(ref.version, found)

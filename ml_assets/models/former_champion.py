"""The former champion: its scores on the first days of a new champion, and whether it can be used again.

Not here: the comparison of the two (see `ml_assets.logic.promotion.watch`).
"""

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from ml_assets.contracts.artifacts import Model
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import cannot_answer, former_version
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import model_of, model_ref
from ml_assets.models.plan import ModelPlan


@dataclass(frozen=True)
class Former:
    """The champion before the current one.

    Attributes:
        trained: the as-of day of the current champion, which has learned from days up to it.
        last_day: the last day on which the two are compared.
        compared: both models, as inputs of each day on which they are compared.
    """

    version: str
    model: Model
    champion: str
    trained: date
    last_day: date
    compared: tuple[Input, ...]

    def scores(self, ledger: StepLedger, plan: ModelPlan, day: str, predictions: pl.DataFrame) -> pl.DataFrame | None:
        """Return its scores for one version's predictions of a day; None if the two are not compared on that day."""
        versions = predictions["model_version"].unique().to_list()
        if versions != [self.champion] or not self.trained < date.fromisoformat(day) <= self.last_day:
            return None
        asset = plan.asset("features").to_user_string()
        ref = ArtifactRef(asset=asset, partition=day, version=predictions["features_version"][0])
        [(features, manifest)] = ledger.lake.read_each([ref], pl.DataFrame)
        ledger.use([Input.of(manifest), *self.compared], partition=day)
        rows = predictions.select(plan.key).join(features, on=list(plan.key), how="left", maintain_order="left")
        return predict(self.model, rows, threads=plan.declaration.training.threads)


def former_champion(lake: Lake, plan: ModelPlan) -> Former | None:
    """Return the former champion, if the current one is compared with it and both predict the same target."""
    declared = plan.declaration
    entries = plan.promotion_log(lake).entries()
    version = former_version(entries)
    serving = entries[-1].champion if entries else None
    if version is None or serving is None or not declared.watch.days or why_it_cannot_serve(lake, plan, version):
        return None
    read = lake.read_each([model_ref(plan, one) for one in (version, serving)], Model)
    former, champion = (model for model, _ in read)
    if champion.spec.classes != former.spec.classes:
        return None
    trained = champion.spec.as_of
    # The current champion may be promoted some days after its as-of day, by a person or because labels were late.
    last_day = trained + timedelta(days=declared.labels.maturity_days + declared.watch.days)
    compared = tuple(Input.of(manifest) for _, manifest in read)
    return Former(version, former, serving, trained, last_day, compared)


def why_it_cannot_serve(lake: Lake, plan: ModelPlan, version: str) -> tuple[str, ...]:
    """Return why a version cannot be champion: it is missing, damaged, or predicts another target."""
    try:
        model = model_of(lake, plan, version)
    except (MissingArtifactError, CorruptArtifactError) as error:
        return (str(error),)
    declared = plan.declaration
    labels = declared.labels
    return cannot_answer(
        model, task=declared.task, target=labels.target, inputs=plan.inputs_contract, positive=labels.positive
    )

"""Who serves, by a model's promotion log.

Who should stays out; see `ml_assets.logic.champion`.
"""

from dataclasses import dataclass

from ml_assets.contracts.artifacts import Model, Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.stages.common.plan import ModelPlan
from resources.lake import Lake
from resources.manifest import ArtifactRef


@dataclass(frozen=True)
class Champion:
    """Who serves: the version, the model itself, and the log's entry that says why."""

    version: str
    model: Model
    entry: Promotion


def champion_model(lake: Lake, plan: ModelPlan) -> Champion | None:
    """Return the model that serves; None where nobody does yet."""
    entry = plan.promotion_log(lake).last()
    if entry is None or entry.champion is None:
        return None
    ref = ArtifactRef(asset=plan.asset("model").to_user_string(), version=entry.champion)
    lake.note(champion=entry.champion)
    return Champion(entry.champion, lake.get(ref, Model), entry)


def serving_champion(lake: Lake, plan: ModelPlan) -> Champion:
    """Return the model that serves.

    Raises:
        DataError: nobody serves.
    """
    champion = champion_model(lake, plan)
    if champion is None:
        raise DataError(
            f"model '{plan.name}' has no champion, so there is nothing to predict with. Materialize "
            f"{plan.name}/champion; if the gate refused the challenger, its reasons stand there."
        )
    return champion

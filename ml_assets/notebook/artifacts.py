"""Any artifact of the lake by model, name and version, and the training set as of a day.

Nothing is written. Not here: the champion (see `ml_assets.notebook.champion`).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import polars as pl

from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.contracts.artifacts.training import Importances, Model, TrainingSet, Tuning
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.shadow import Shadow
from ml_assets.declaration.reading import read_all
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.models.plan import ModelPlan, Plans
from ml_assets.models.training_rows import training_set_in
from ml_assets.project import find_project
from ml_assets.settings import lake_url
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

KINDS: Final[Mapping[str, type]] = {
    "features": pl.DataFrame, "labels": pl.DataFrame, "training_set": TrainingSet, "importances": Importances,
    "tuning": Tuning, "model": Model, "evaluation": Evaluation, "champion": Promotion, "predictions": pl.DataFrame,
    "drift": DailyDrift, "performance": DailyPerformance, "card": Card, "shadow_predictions": pl.DataFrame,
    "shadow": Shadow, "requests": pl.DataFrame, "served_drift": DailyDrift, "served_performance": DailyPerformance,
}  # fmt: skip
"""What each stage of a model stores. All other assets are tables."""
CHAMPION: Final = "champion"
"""The version of an artifact that belongs to the current champion."""
_SHOWN: Final = 5

Periods = str | date | tuple[str | date, str | date]
"""The first day of a period, or of the first and the last of several."""


def open_lake(lake: str | Lake | None = None) -> Lake:
    """Return a lake by its address; by default that of `ML_ASSETS_LAKE`, else the folder `.lake` of the project.

    Options of an object store come from the usual AWS chain: environment, profile, web identity, role.

    Raises:
        ProjectError: no address is set, and no project was found.
    """
    return lake if isinstance(lake, Lake) else Lake(lake_url(lake or ""))


def load_artifact(
    model: str,
    name: str,
    periods: Periods | None = None,
    *,
    version: str | None = None,
    lake: str | Lake | None = None,
) -> Any:  # noqa: ANN401 - each asset stores its own type
    """Return an artifact, after checking its files against its manifest.

    Args:
        model: the model; `raw` or `tables` for a table.
        name: the stage, such as `training_set`, or the table.
        periods: the period of an artifact by period, or the first and the last one; all periods if absent.
        version: a version or its first characters; `champion` for the artifact that the current champion was built
            from, or that was built from it. The current version if absent.
        lake: the lake or its address; see `open_lake`.

    Returns:
        A frame for features, labels, predictions and tables, of all requested periods. Otherwise the stage's own type
        in `ml_assets.contracts.artifacts`; for several periods, one for each by its period.

    Raises:
        DataError: there is no such artifact.
        CorruptArtifactError: it is damaged.
    """
    place, asset, kind = open_lake(lake), f"{model}/{name}", KINDS.get(name, pl.DataFrame)
    if version is not None:
        return place.get(artifact_of_version(place, f"{model}/{name}", periods, version), kind)
    refs = _current(place, asset, periods)
    if not refs:
        raise DataError(f"the lake {place.url} has no artifact {_words(asset, periods)}{_hint(place, model, name)}.")
    if kind is pl.DataFrame:
        return place.scan([*refs.values()]).collect()
    found = dict(zip(refs, place.get_each([*refs.values()], kind), strict=True))
    return found.popitem()[1] if isinstance(periods, str | date) or "" in found else found


def _current(lake: Lake, asset: str, periods: Periods | None) -> dict[str, ArtifactRef]:
    """Return the current artifact of each requested partition that exists; '' for an asset without partitions."""
    if isinstance(periods, str | date):
        return lake.newest(asset, [str(periods)])
    if periods is None:
        return dict(sorted(lake.newest(asset).items()))
    first, last = map(str, periods)
    return lake.newest(asset, [it for it in lake.partitions(asset) if first <= it and it[: len(last)] <= last])


def artifact_of_version(lake: Lake, asset: str, periods: Periods | None, version: str) -> ArtifactRef:
    """Return the artifact of a model's stage with a version, its first characters, or `champion`; see `load_artifact`.

    Raises:
        DataError: there is no such version, or there are several.
    """
    model, _, name = asset.partition("/")
    if not (periods is None or isinstance(periods, str | date)):
        raise DataError(f"version '{version}' of {asset}: a version belongs to one period; name that period alone.")
    partition = "" if periods is None else str(periods)
    manifests = lake.publications(asset, [partition]).get(partition, [])
    if version == CHAMPION:
        champion = model_of_champion(lake, model)
        found = {it for it in _upstream(lake, champion) if it.asset == asset and it.partition == (partition or None)}
        found = found or {it.ref for it in manifests if champion in it.inputs}
    else:
        found = {it.ref for it in manifests if it.version.startswith(version)}
    if len(found) == 1:
        return found.pop()
    known = [*dict.fromkeys(it.version[:12] for it in reversed(manifests))]
    listed = f"; it has {', '.join(known[:_SHOWN])}{' and more' if len(known) > _SHOWN else ''}" if known else ""
    problem = "no" if not found else f"{len(found)} artifacts of"
    raise DataError(
        f"the lake {lake.url} has {problem} version '{version}' of {_words(asset, periods)}{listed}"
        f"{_hint(lake, model, name) if not known else ''}."
    )


def model_of_champion(lake: Lake, model: str) -> ArtifactRef:
    """Return the artifact of a model's current champion.

    Raises:
        DataError: there is none.
        CorruptArtifactError: the promotion log is damaged.
    """
    entries = PromotionLog(lake, model).verified().entries
    version = entries[-1].champion if entries else None
    if version is None:
        raise DataError(
            f"model '{model}' has no champion in the lake {lake.url}"
            + ("; the gate rejected the challenger, see its card" if entries else _hint(lake, model, "model"))
            + f". Train and judge one with: ml-assets run {model}."
        )
    return ArtifactRef(asset=f"{model}/model", version=version)


def _upstream(lake: Lake, root: ArtifactRef) -> set[ArtifactRef]:
    """Return an artifact, and what its model stages were built from. Features and labels end the search."""
    found, waiting = {root}, [root]
    while waiting:
        new = {*lake.manifest(waiting.pop()).inputs} - found
        found |= new
        waiting += [it for it in new if it.partition is None]
    return found


def _words(asset: str, periods: Periods | None) -> str:
    if periods is None:
        return asset
    return (
        f"{asset} of {periods}" if isinstance(periods, str | date) else f"{asset} of {' to '.join(map(str, periods))}"
    )


def _hint(lake: Lake, model: str, name: str) -> str:
    """Return which similar artifacts exist, as a clause."""
    root = lake.path("artifacts")
    models = lake.names(root)
    if model not in models:
        return f"{near(model, models)}; it has artifacts of {', '.join(models) or 'nothing'}"
    names = lake.names(f"{root}/{model}")
    if name not in names:
        return f"{near(name, names)}; {model} has {', '.join(names)}"
    periods = lake.partitions(f"{model}/{name}")
    return f"; there are {len(periods)} periods from {periods[0]} to {periods[-1]}" if periods else ""


def read_plan(model: str) -> ModelPlan:
    """Return a model's declaration with the contracts of its tables, from the current project.

    Raises:
        ProjectError: no project was found.
        DeclarationError: a declaration has an error, or no model has that name.
        DataError: dbt's manifest has not been prepared; `ml-assets parse` does that.
    """
    project = find_project()
    project.add_to_path()
    return Plans(read_all(project.declarations), read_contracts(read_manifest(project.dbt), project.dbt)).of(model)


def load_training_set(model: str, as_of: str | date | None = None, *, lake: str | Lake | None = None) -> TrainingSet:
    """Return the training set as of a day, as the asset `training_set` builds it: split and purged as declared.

    Args:
        model: the model, which the current project declares.
        as_of: the day by whose end a label must be known; the newest day of the features if absent.
        lake: the lake or its address; see `open_lake`.

    Raises:
        DataError: features or labels of the training days are missing.
        ContractError: the features have a proven leak, or were not tested for leaks as declared.
    """
    return training_set_in(open_lake(lake), read_plan(model), None if as_of is None else date.fromisoformat(str(as_of)))

"""Reads a training set as of a day from the lake: for notebooks, comparisons of versions, and shadow.

Not here: the asset `training_set`, whose inputs Dagster loads (see `ml_assets.stages.training_set`).
"""

from collections.abc import Sequence
from datetime import date

from ml_assets.contracts.artifacts.training import TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.training_set import Split
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.models.leaks import findings_on, refuse_leaks
from ml_assets.models.plan import ModelPlan, newest_day
from ml_assets.models.training import refuse_gaps, training_set_as_of


def training_set_in(
    source: Lake | StepLedger, plan: ModelPlan, as_of: date | None, *, split: Split | None = None
) -> TrainingSet:
    """Return a plan's training set as of a day, split as given or as the model declares. Through a ledger it is read.

    Args:
        source: the lake, or the ledger of a step, whose inputs are then the features and labels.
        plan: the model.
        as_of: the day by whose end a label must be known; the newest day of the features if absent.
        split: the split; the declared one if absent.

    Raises:
        DataError: features or labels of the training days are missing.
        ContractError: the features have a proven leak, or were not tested for leaks as declared.
    """
    declared, lake = plan.declaration, source if isinstance(source, Lake) else source.lake
    last = "" if as_of is None else plan.calendar.last_key(as_of)
    features, labels = (current_up_to(source, plan, stage, last) for stage in ("features", "labels"))
    for stage, refs in (("features", features), ("labels", labels)):
        if not refs:
            raise DataError(
                f"the lake {lake.url} has no {stage} of '{plan.name}'{f' up to {last}' if last else ''}; "
                f"materialize them with: ml-assets run {plan.name}."
            )
    rows = source.scan(features)
    day = as_of or newest_day(rows)
    there = {refs[0].asset: [it.partition or "" for it in refs] for refs in (features, labels)}
    refuse_gaps(plan, there, day, split or declared.split)
    refuse_leaks(plan.name, findings_on(lake, declared, features, ()))
    return training_set_as_of(plan, rows, source.scan(labels), as_of=day, split=split)


def current_up_to(source: Lake | StepLedger, plan: ModelPlan, stage: str, last: str = "") -> Sequence[ArtifactRef]:
    """Return the current artifacts of a model's stage by day, up to a period if one is given."""
    refs = source.newest(f"{plan.name}/{stage}")
    return [refs[key] for key in plan.calendar.current(sorted(refs)) if not last or key <= last]

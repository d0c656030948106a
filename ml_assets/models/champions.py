"""The current champion of a model, the anchor, the version that its card is about, and models by version.

Not here: which version should be champion (see `ml_assets.logic.promotion.gate`).
"""

from dataclasses import dataclass

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.dagster_storage.code_versions import code_digest
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import HEAD
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.report import Opponent
from ml_assets.logic.promotion.log import anchor, cannot_answer
from ml_assets.logic.training.golden_rows import check_golden_rows
from ml_assets.models.evaluation import Versioned
from ml_assets.models.plan import ModelPlan
from ml_assets.orchestration.groups import TRAINING
from ml_assets.provenance.lineage import code_behind


@dataclass(frozen=True)
class Champion:
    """The current champion: its version, the model itself, the newest entry of the log, and the anchor by that log."""

    version: str
    model: Model
    entry: Promotion
    anchor: str | None


def champion_model(ledger: StepLedger, plan: ModelPlan) -> Champion | None:
    """Return the current champion or None, and record the newest entry of the log in the step's manifests.

    Raises:
        CorruptArtifactError: the promotion log or the model is damaged.
    """
    log = plan.promotion_log(ledger.lake).verified()
    entry = log.entries[-1] if log.entries else None
    if log.head is None or entry is None or entry.champion is None:
        return None
    ledger.note(champion=entry.champion, **{HEAD: log.head.model_dump()})
    return Champion(entry.champion, model_of(ledger, plan, entry.champion), entry, anchor(log.entries))


def opponents(ledger: StepLedger, plan: ModelPlan) -> tuple[Versioned | None, Versioned | Opponent | None]:
    """Return the champion and the anchor (see `ml_assets.logic.promotion.log`) that a challenger is compared with.

    Raises:
        CorruptArtifactError: the promotion log or the champion is damaged. An anchor that cannot be read has no scores;
            the gate then promotes only a challenger that is better than the champion.
    """
    found = champion_model(ledger, plan)
    if found is None or found.anchor is None:
        return None, None
    return Versioned(found.version, found.model), anchor_model(ledger, plan, found)


def anchor_model(ledger: StepLedger, plan: ModelPlan, champion: Champion) -> Versioned | Opponent | None:
    """Return the anchor of the log that names the champion; see `opponents`."""
    if champion.anchor is None:
        return None
    ledger.note(anchor=champion.anchor)
    if champion.anchor == champion.version:
        return Versioned(champion.version, champion.model)
    try:
        return Versioned(champion.anchor, model_of(ledger, plan, champion.anchor))
    except (MissingArtifactError, CorruptArtifactError) as error:
        return Opponent(champion.anchor, cannot_score=str(error))


def pooled_champion(ledger: StepLedger, plan: ModelPlan) -> Versioned | None:
    """Return the champion of the model of all rows for a model of some of them, or None.

    Raises:
        CorruptArtifactError: its promotion log or the model is damaged.
    """
    if plan.pooled is None or (serving := champion_version(ledger.lake, plan.pooled)) is None:
        return None
    ledger.note(pooled=serving)
    return Versioned(serving, model_of(ledger, plan.pooled, serving))


def champion_version(lake: Lake, plan: ModelPlan) -> str | None:
    """Return the version of the current champion by the verified promotion log; None if there is none."""
    entries = plan.promotion_log(lake).verified().entries
    return entries[-1].champion if entries else None


def note_head(ledger: StepLedger, plan: ModelPlan) -> None:
    """Record the newest entry of the promotion log in the manifests of the running step."""
    head = plan.promotion_log(ledger.lake).inspect(manifests=0).head
    if head is not None:
        ledger.note(**{HEAD: head.model_dump()})


def note_code_of_challenger(ledger: StepLedger, plan: ModelPlan, version: str) -> None:
    """Record the code that trained and evaluated a challenger, because its verdict depends on it."""
    lake, evaluation = ledger.lake, plan.asset("evaluation").to_user_string()
    if (evaluated := ledger.versions().get(evaluation)) is None:
        return
    manifest = lake.manifest(ArtifactRef(asset=evaluation, version=evaluated))
    codes = {**code_behind(lake, model_ref(plan, version)), evaluation: manifest.code_version}
    stages = [plan.asset(stage).to_user_string() for stage in TRAINING if stage != "champion"]
    ledger.code_behind = code_digest(codes.get(asset) for asset in stages)


def note_code_of_verdict(ledger: StepLedger, plan: ModelPlan) -> None:
    """Record the code of the gate's newest verdict, which made the champion."""
    verdict = ledger.lake.newest(plan.asset("champion").to_user_string(), [""]).get("")
    if verdict is not None:
        ledger.code_behind = code_digest([ledger.lake.manifest(verdict).code_version])


def model_ref(plan: ModelPlan, version: str) -> ArtifactRef:
    """Return the artifact of a version of a model."""
    return ArtifactRef(asset=plan.asset("model").to_user_string(), version=version)


def model_of(source: Lake | StepLedger, plan: ModelPlan, version: str) -> Model:
    """Return a version of a model. Through a ledger it is an input of the step.

    Raises:
        MissingArtifactError: it is not in the lake.
        CorruptArtifactError: it is damaged.
    """
    model: Model = source.get(model_ref(plan, version), Model)
    return model


@dataclass(frozen=True)
class Shown:
    """The version that a card is about, its model, and whether it is the current champion."""

    version: str
    model: Model
    is_champion: bool


def model_on_card(ledger: StepLedger, plan: ModelPlan) -> Shown:
    """Return the champion for a card or, before the first promotion, the challenger that was judged last.

    Raises:
        DataError: the gate has judged no challenger yet.
    """
    entry = plan.promotion_log(ledger.lake).last()
    if entry is None:
        raise DataError(
            f"the gate has judged no challenger of model '{plan.name}' yet, so its card has no content. "
            f"Materialize {plan.name}/champion first."
        )
    version = entry.champion or entry.challenger
    ledger.note(champion=entry.champion, shown=version)
    note_code_of_verdict(ledger, plan)
    return Shown(version, model_of(ledger, plan, version), is_champion=version == entry.champion)


def serving_champion(ledger: StepLedger, plan: ModelPlan) -> Champion:
    """Return the current champion.

    Raises:
        DataError: there is none.
    """
    champion = champion_model(ledger, plan)
    if champion is None:
        raise DataError(
            f"model '{plan.name}' has no champion, so it cannot predict. Materialize "
            f"{plan.name}/champion; if the gate rejected the challenger, see its card for the reasons."
        )
    return champion


def why_it_cannot_serve(lake: Lake, plan: ModelPlan, version: str) -> tuple[str, ...]:
    """Return why a version cannot be champion: it is missing, damaged, predicts another target, or has other scores."""
    try:
        model = model_of(lake, plan, version)
        check_golden_rows(model, version=version)
    except (MissingArtifactError, CorruptArtifactError, ContractError, DataError) as error:
        return (str(error),)
    declared = plan.declaration
    labels = declared.labels
    return cannot_answer(
        model, task=declared.task, target=labels.target, inputs=plan.inputs_contract, positive=labels.positive
    )

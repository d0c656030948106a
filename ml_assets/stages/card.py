"""The card: one HTML page about the champion, with what the lake contains about it.

Not here: layout and wording (see `ml_assets.logic.pages.card`).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import dagster as dg

from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.contracts.artifacts.training import Importances, TrainingSet, Tuning
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.shadow import Shadow
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.pages.card import render_card
from ml_assets.logic.pages.card_input import CardInput, CardTable, Making
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.models.champions import Shown, model_on_card
from ml_assets.models.leaks import findings_behind
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.asset import stage

T = TypeVar("T")


def card(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's card."""

    @stage(
        plan,
        "card",
        [render_card, card_input],
        kinds={"html"},
        parameters=_shown(plan),
        deps=[plan.asset(name) for name in ("champion", "drift", "performance", *_shadow(plan))],
    )
    def card(context: dg.AssetExecutionContext, ml_assets_lake: LakeResource) -> Card:
        """Data, features, metrics, slices, calibration, drift, limits of use and versions of the champion.

        Before the first promotion, it describes the challenger that was judged last.
        """
        ledger = ml_assets_lake.ledger()
        shown = model_on_card(ledger, plan)
        page = render_card(card_input(ledger, plan, shown))
        context.add_output_metadata({"model version": shown.version, "size (kB)": round(len(page) / 1000)})
        return Card(page)

    return card


def _shadow(plan: ModelPlan) -> tuple[str, ...]:
    """Return the stage that compares challengers in shadow, if there is one."""
    return ("shadow",) if plan.declaration.challengers.shadow else ()


def _shown(plan: ModelPlan) -> dict[str, Any]:
    """Return what the page shows from the current declaration and contracts, not from recorded versions."""
    declared = plan.declaration
    texts = declared.model_dump(
        include={"description", "owner", "intended_use", "limits_of_use", "metric", "leak_test"}
    )
    texts |= {"left_out": dict(left_out)} if (left_out := declared.features.left_out) else {}
    return texts | {"tables": {it.name: it.description for it in (plan.features_table, plan.labels_table)}}


def card_input(ledger: StepLedger, plan: ModelPlan, shown: Shown) -> CardInput:
    """Return what the lake contains about a version. Artifacts are found by its lineage, newest or not."""
    lake, declared = ledger.lake, plan.declaration
    manifest = lake.manifest(ArtifactRef(asset=plan.asset("model").to_user_string(), version=shown.version))
    sources = {ref.asset: ref for ref in manifest.inputs}
    training_set = _get(ledger, plan, sources, "training_set", TrainingSet)
    tuning = _get(ledger, plan, sources, "tuning", Tuning)
    promotion = _promotion(lake, plan, shown.version)
    if f"{plan.name}/tuning" in sources:
        sources |= {ref.asset: ref for ref in lake.manifest(sources[f"{plan.name}/tuning"]).inputs}
    importances = _get(ledger, plan, sources, "importances", Importances)
    evaluation = None
    if promotion is not None and promotion.evaluation_version is not None:
        ref = ArtifactRef(asset=f"{plan.name}/evaluation", version=promotion.evaluation_version)
        sources[ref.asset] = ref
        evaluation = ledger.get(ref, Evaluation)
    drift = [own for one in _days(ledger, plan, "drift", DailyDrift) if (own := one.of(shown.version))]
    performance = [
        summary
        for one in _days(ledger, plan, "performance", DailyPerformance)
        if (summary := one.summaries.of(shown.version))
    ]
    behind = _made_from(lake, sources.get(f"{plan.name}/training_set"))
    return CardInput(
        name=plan.name,
        task=declared.task,
        target=declared.labels.target,
        version=shown.version,
        description=declared.description,
        owner=declared.owner or "",
        intended_use=declared.intended_use,
        limits=declared.limits_of_use,
        left_out=declared.features.left_out,
        as_of=shown.model.spec.as_of,
        tables=_tables(plan, behind),
        leaks=_leaks(ledger, plan, sources.get(f"{plan.name}/training_set")),
        training_set=None if training_set is None else training_set.summary,
        model=shown.model.spec,
        importances=importances,
        model_importances=shown.model.importances,
        tuning=tuning,
        evaluation=evaluation,
        promotion=promotion,
        champions=_champions(lake, plan),
        shadow=next((ledger.get(ref, Shadow) for it in _shadow(plan) for ref in _newest(ledger, plan, it)), None),
        serving=shown.version if shown.is_champion else None,
        drift=drift[-1] if drift else None,
        drift_history=[one.summary for one in drift],
        performance=performance,
        performance_metric=declared.metric,
        versions={f"{plan.name}/model": shown.version} | {name: ref.version for name, ref in sources.items()},
        making=_making(manifest),
        written_at=promotion.decided_at.replace(tzinfo=None) if promotion else None,
    )


def _made_from(lake: Lake, ref: ArtifactRef | None) -> dict[ArtifactRef, Manifest]:
    """Return the inputs of an artifact with their manifests."""
    return {} if ref is None else lake.manifest_of_each(lake.manifest(ref).inputs)


def _leaks(ledger: StepLedger, plan: ModelPlan, training_set: ArtifactRef | None) -> LeakFindings | None:
    if training_set is None:
        return None
    manifest = ledger.lake.manifest(training_set)
    return findings_behind(ledger.lake, plan.declaration, manifest, runs=ledger.runs)


def _tables(plan: ModelPlan, behind: Mapping[ArtifactRef, Manifest]) -> list[CardTable]:
    """Return the tables behind a training set, with their days."""
    tables = []
    for role, contract in (("features", plan.features_table), ("labels", plan.labels_table)):
        refs = [ref for ref in behind if ref.asset == f"{plan.name}/{role}"]
        days = sorted(ref.partition for ref in refs if ref.partition)
        windows = [plan.partitions.time_window_for_partition_key(day) for day in (days[:1] + days[-1:])]
        tables.append(
            CardTable(
                name=contract.name,
                role=role,
                description=contract.description,
                rows=sum(behind[ref].rows or 0 for ref in refs) if refs else None,
                first_day=windows[0].start.date() if windows else None,
                last_day=(windows[-1].end - timedelta(days=1)).date() if windows else None,
            )
        )
    return tables


def _get(ledger: StepLedger, plan: ModelPlan, sources: dict[str, ArtifactRef], name: str, kind: type[T]) -> T | None:
    ref = sources.get(f"{plan.name}/{name}")
    return None if ref is None else ledger.get(ref, kind)


def _days(ledger: StepLedger, plan: ModelPlan, name: str, kind: type[T]) -> list[T]:
    refs = ledger.lake.newest(f"{plan.name}/{name}")
    return ledger.get_each([refs[day] for day in plan.calendar.current(sorted(refs))], kind)


def _newest(ledger: StepLedger, plan: ModelPlan, name: str) -> Iterable[ArtifactRef]:
    """Return the current artifact of a stage without periods; nothing before it was materialized."""
    return ledger.lake.newest(f"{plan.name}/{name}", [""]).values()


def _promotion(lake: Lake, plan: ModelPlan, version: str) -> Promotion | None:
    log = [it for it in plan.promotion_log(lake).entries() if it.is_verdict]
    entries = [it for it in log if version in (it.champion, it.challenger)]
    decisive = [entry for entry in entries if entry.challenger == version] or entries
    return decisive[-1] if decisive else None


def _champions(lake: Lake, plan: ModelPlan) -> list[Promotion]:
    entries = plan.promotion_log(lake).entries()
    return [entry for entry in reversed(entries) if entry.action in {"promote", "rollback"}]


def _making(manifest: Manifest) -> Making:
    return Making(
        code_version=manifest.code_version,
        commit=manifest.git_commit,
        is_dirty=manifest.git_is_dirty,
        environment=manifest.environment,
        run_id=manifest.run_id,
        seconds=manifest.seconds,
        peak_memory_bytes=manifest.peak_memory_bytes,
    )

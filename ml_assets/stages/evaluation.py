"""Evaluation: the challenger on the frozen test rows, compared with baselines, the champion and the anchor.

Not here: the verdict (see `ml_assets.stages.champion`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Comparison, EvaluationSummary
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.lake.resource import LakeResource
from ml_assets.models.champions import opponents, pooled_champion
from ml_assets.models.evaluation import Versioned, measure_challenger
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.asset import as_table, stage

BEATS_BASELINES: Final = "challenger_beats_every_baseline"
UNSEEN: Final = "test_rows_are_new_to_the_models"


def evaluation(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's evaluation."""
    declared, pooled = plan.declaration, plan.pooled

    @stage(
        plan, "evaluation", measure_challenger, kinds={"polars", "lightgbm"}, parameters={
            "settings": declared.evaluation, "metric": declared.metric, "seed": declared.seed,
            "min_slice_rows": declared.gate.min_slice_rows,
            **({} if pooled is None else {"compared_with": pooled.name}),
        },
        ins={"training_set": dg.AssetIn(plan.asset("training_set")), "model": dg.AssetIn(plan.asset("model"))},
        deps=[] if pooled is None else [pooled.asset("champion")],
        check_specs=[
            dg.AssetCheckSpec(
                BEATS_BASELINES, asset=plan.asset("evaluation"),
                description="The 95 % interval of the deciding metric's difference to each baseline is above zero.",
            ),
            dg.AssetCheckSpec(
                UNSEEN, asset=plan.asset("evaluation"),
                description="Neither challenger, champion nor anchor has learned from a day of the test rows.",
            ),
        ],
    )  # fmt: skip
    def evaluation(training_set: TrainingSet, model: Model, ml_assets_lake: LakeResource) -> Iterator[Any]:
        """Metrics with intervals, slices, calibration and curves on rows that the model has not seen."""
        from ml_assets.logic.plots.evaluation import evaluation_plots

        ledger = ml_assets_lake.ledger()
        versions = ledger.versions()
        champion, anchor = opponents(ledger, plan)
        result = measure_challenger(
            plan,
            training_set,
            Versioned(versions.get(f"{plan.name}/model", ""), model),
            champion=champion,
            anchor=anchor,
            pooled=pooled_champion(ledger, plan),
            training_set_version=versions.get(f"{plan.name}/training_set", ""),
            on_fold=lambda done, of: dg.get_dagster_logger().info(f"fold {done} of {of} tested"),
        )
        plots = evaluation_plots(result, classes=training_set.summary.classes)
        yield from _checks(plan, result.summary)
        yield dg.Output(result, metadata=_metadata(result.summary, plots))

    return evaluation


def _metadata(summary: EvaluationSummary, plots: Mapping[str, str]) -> dict[str, Any]:
    from ml_assets.logic.plots.drawing import as_markdown_image

    sentences = {
        f"{summary.metric} is": summary.groups, "operating point": summary.operating_point,
        "weighted by": summary.weight,
    }  # fmt: skip
    coverage = summary.coverage
    return {
        **{name: figure.value for name, figure in summary.metrics.items()},
        **{f"{name} interval": figure.ends("z.4f") for name, figure in summary.metrics.items()},
        **{name: dg.MetadataValue.md(as_markdown_image(svg, name)) for name, svg in plots.items()},
        "test rows": summary.rows,
        **({} if coverage is None else {f"coverage of {coverage.declared:g} intervals": coverage.measured.value}),
        **_opponents(summary),
        **{name: it.words for name, it in sentences.items() if it is not None},
        **_known_groups(summary),
    }


def _known_groups(summary: EvaluationSummary) -> dict[str, Any]:
    """Return the metadata about groups that were seen in training."""
    known = summary.known_groups
    if known is None:
        return {}
    return {
        f"rows with a {known.column} seen in training": known.share,
        f"{summary.metric} of a {known.column} seen in training": known.seen.words,
        f"{summary.metric} of a {known.column} not seen in training": known.unseen.words,
    }


def _checks(plan: ModelPlan, summary: EvaluationSummary) -> Iterator[dg.AssetCheckResult]:
    """Yield the checks: whether the challenger beats the baselines, and whether all models are new to the test rows."""
    compared = summary.against_baselines
    undecided = next((it.difference.reason for it in compared if it.difference.reason), "")
    undecided = undecided if compared else "there is no baseline to compare with"
    common: dict[str, Any] = {"asset_key": plan.asset("evaluation"), "severity": dg.AssetCheckSeverity.WARN}
    yield dg.AssetCheckResult(
        check_name=BEATS_BASELINES,
        passed=bool(compared) and all((it.difference.low or 0) > 0 for it in compared),
        description=f"Not judged: {undecided}." if undecided else None,
        metadata={"differences": _table(compared)} if compared else {},
        **common,
    )
    yield dg.AssetCheckResult(
        check_name=UNSEEN,
        passed=summary.seen_rows == 0,
        metadata={
            "test rows": summary.rows,
            "last seen day": str(summary.last_seen_day),
            "rows seen before": summary.seen_rows,
            "excluded rows": summary.excluded_rows,
        },
        **common,
    )


def _opponents(summary: EvaluationSummary) -> dict[str, Any]:
    """Return the metadata about the champion and the anchor."""
    compared = [it for it in (summary.against_champion, summary.against_anchor) if it is not None]
    shown: dict[str, Any] = {
        "champion": summary.champion_version,
        "champion cannot score": summary.champion_cannot_score,
        "anchor": summary.anchor_version,
        "anchor cannot score": summary.anchor_cannot_score,
        "differences to champion and anchor": _table(compared) if compared else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _table(compared: Sequence[Comparison]) -> dg.TableMetadataValue:
    return as_table(
        pl.DataFrame(
            [
                {
                    "against": it.against,
                    "metric": it.metric,
                    "challenger": it.challenger,
                    "other": it.other,
                    "difference": it.difference.value,
                    "95 % from": it.difference.low,
                    "to": it.difference.high,
                    "rows": it.rows,
                }
                for it in compared
            ]
        )
    )

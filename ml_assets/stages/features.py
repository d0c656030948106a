"""Features: one row a prediction, by day, checked against the contract; the one source for training, batch and online.

Computing them stays out; that is dbt's mart.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import broken_rules, rule_names
from ml_assets.logic.features import select_features
from ml_assets.stages.common import DAY, ModelPlan, check_name, stage, table_key


def features(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's features."""
    wanted = plan.declaration.features
    contract = plan.features_table.only(plan.features_columns)
    rules = rule_names(contract)

    @stage(
        plan, "features", [select_features, broken_rules], kinds={"polars", "parquet"}, by_day=True,
        columns=contract,
        ins={"table": dg.AssetIn(table_key(wanted.table))},
        check_specs=[
            dg.AssetCheckSpec(check_name(rule), asset=plan.asset("features"), description=rule, blocking=True)
            for rule in rules
        ],
    )  # fmt: skip
    def features(table: pl.DataFrame) -> Iterator[Any]:
        """What was known of each row at its prediction time, and nothing later."""
        broken = broken_rules(table.select(name for name in contract.names if name in table.columns), contract)
        for rule in rules:
            yield dg.AssetCheckResult(
                check_name=check_name(rule),
                asset_key=plan.asset("features"),
                passed=rule not in broken,
                metadata={"rule": rule, **({"finding": broken[rule]} if rule in broken else {})},
            )
        if broken:
            raise ContractError("\n".join(broken.values()))
        times = (wanted.event_time, wanted.prediction_time)
        yield dg.Output(select_features(table, key=plan.key, times=times, feature_list=plan.features, day=DAY))

    return features

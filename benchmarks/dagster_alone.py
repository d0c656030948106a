"""Dagster alone: the graph of `benchmarks.orchestrated` with empty steps; for `benchmarks.overhead`.

The assets, their partitions and the event storage are the same. Steps compute nothing and store nothing, and there are
no checks.
"""

import argparse
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from ml_assets.adapters.dagster import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from ml_assets.cli.flow.project import open_instance

TRAINING = ("training_set", "importances", "tuning", "model", "evaluation", "champion")
MONITORING = ("predictions", "drift", "performance")


class _Nowhere(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: None) -> None:
        """Store nothing."""

    def load_input(self, context: dg.InputContext) -> None:
        """Load nothing."""


def main() -> None:
    """Run empty training, then empty monitoring over a window of days."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("as_of", type=date.fromisoformat)
    parser.add_argument("days", type=int, help="days of the monitoring")
    arguments = parser.parse_args()
    first = arguments.as_of - timedelta(days=arguments.days - 1)
    daily = dg.DailyPartitionsDefinition(str(first), end_offset=1)
    definitions = dg.Definitions(
        assets=[*_chain(TRAINING, None), *_chain(MONITORING, daily)], resources={"io_manager": _Nowhere()}
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    days = {ASSET_PARTITION_RANGE_START_TAG: str(first), ASSET_PARTITION_RANGE_END_TAG: str(arguments.as_of)}
    for stages, tags in ((TRAINING, {}), (MONITORING, days)):
        with open_instance() as instance:
            selection = [dg.AssetKey(stage) for stage in stages]
            job.execute_in_process(instance=instance, asset_selection=selection, tags=tags)
    print("done")


def _chain(names: Sequence[str], partitions: dg.PartitionsDefinition[str] | None) -> list[dg.AssetsDefinition]:
    """Return empty assets, each downstream of the one before it."""
    return [
        dg.asset(
            name=name,
            deps=[names[number - 1]] if number else [],
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        )(_empty)
        for number, name in enumerate(names)
    ]


def _empty() -> None:
    """Compute nothing."""


if __name__ == "__main__":
    main()

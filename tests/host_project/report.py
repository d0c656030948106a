"""Loads the merged code location, materializes a chain over both projects, and prints what it found as JSON."""

import json
from pathlib import Path

import dagster as dg

import resources
from definitions import defs

assert resources.__file__ == str(Path(__file__).parent / "resources" / "__init__.py")
HOST = ("reports", "others")


@dg.asset(group_name="raw", key=["others", "rows"], partitions_def=dg.DailyPartitionsDefinition("2013-01-01"))
def rows() -> None: ...


whole = dg.Definitions.merge(dg.Definitions(assets=[rows]), defs)
repository = whole.get_repository_def()
graph = repository.asset_graph
selections = {it.name: it.asset_selection for it in repository.sensor_defs if it.asset_selection is not None}
targets = {
    it.name: repository.get_job(it.job_name).asset_layer.executable_asset_keys
    for it in (*repository.schedule_defs, *repository.sensor_defs)
    if it.name.startswith("ml_assets_") and it.has_anonymous_job
}
chain = [["raw", "airlines"], ["tables", "stg_airlines"], ["reports", "carriers"]]
done = whole.resolve_implicit_global_asset_job_def().execute_in_process(asset_selection=[*map(dg.AssetKey, chain)])
stored = dict(line.split("=") for line in Path("stored.txt").read_text().splitlines())
print(
    json.dumps(
        {
            "selected": {
                name: [key.to_user_string() for key in keys if key.path[0] in HOST]
                for name, keys in (targets | {name: it.resolve(graph) for name, it in selections.items()}).items()
            },
            "materialized": sorted(
                it.asset_key.to_user_string() for it in done.get_asset_materialization_events() if it.asset_key
            ),
            "by the host's IO manager": [*stored],
            "carriers": int(stored["reports/carriers"]),
        }
    )
)

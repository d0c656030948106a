"""The code location as Dagster loads it: what it shares, and that declared models come out whole.

What it imports: see `tests.test_distribution`.
"""

import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.assembly import STAGES
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.declaration.challengers import ChallengersSettings
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.declaration.serving import ServingSettings
from ml_assets.orchestration.groups import SERVED, SHADOW
from ml_assets.warehouse.project_contracts import read_manifest
from tests.flights import DEFS, build


def copies(declared: Declared, *names: str) -> Declared:
    """Return a project with the first model declared under other names."""
    models = tuple(declared.models[0].model_copy(update={"name": name}) for name in names)
    return Declared(models=models, raw=declared.raw, tables=declared.tables)


def models_in(defs: dg.Definitions) -> dict[str, set[str]]:
    """Return the stages of each model in a code location."""
    found: dict[str, set[str]] = {}
    for key in defs.resolve_asset_graph().get_all_asset_keys():
        if key.path[0] not in {"raw", "tables", "ml_assets_overview"}:
            found.setdefault(key.path[0], set()).add(key.path[1])
    return found


def test_every_declared_model_has_every_stage_and_those_of_shadow_and_service_where_they_are_declared(
    manifest: Mapping[str, Any],
) -> None:
    declared = copies(read_all(DEFS), "one", "two", "three")
    *others, last = declared.models
    other = {"challengers": ChallengersSettings(shadow=True), "serving": ServingSettings()}
    shadowed = last.model_copy(update=other)
    stages = {factory.__name__ for factory in STAGES}

    found = models_in(build(declared=replace(declared, models=(*others, shadowed)), manifest=manifest))

    usual = stages - {*SHADOW, *SERVED}
    assert {"one": usual, "two": usual, "three": stages} == found


def test_models_of_the_same_days_and_tables_share_partitions_and_column_schemas(manifest: Mapping[str, Any]) -> None:
    graph = build(declared=copies(read_all(DEFS), "one", "two"), manifest=manifest).resolve_asset_graph()
    one, two = (graph.get(dg.AssetKey([name, "features"])) for name in ("one", "two"))

    assert one.partitions_def is two.partitions_def
    assert one.metadata["dagster/column_schema"] == two.metadata["dagster/column_schema"]
    assert one.code_version == two.code_version


def test_building_leaves_the_garbage_collector_as_it_was(manifest: Mapping[str, Any]) -> None:
    declared = read_all(DEFS)
    build(declared=declared, manifest=manifest)
    assert gc.isenabled()

    gc.disable()
    try:
        build(declared=declared, manifest=manifest)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_build_that_fails_turns_the_garbage_collector_on_again() -> None:
    with pytest.raises(ContractError):
        build(declared=read_all(DEFS), manifest={"nodes": {}, "sources": {}})

    assert gc.isenabled()


def test_all_models_whose_tables_have_no_contract_are_named_at_once(manifest: Mapping[str, Any]) -> None:
    wrong = [
        model.model_copy(update={"features": model.features.model_copy(update={"table": f"nothing_for_{model.name}"})})
        for model in copies(read_all(DEFS), "one", "two").models
    ]

    with pytest.raises(
        ContractError,
        match=r"(?s)table 'nothing_for_one' of model 'one' has.*table 'nothing_for_two' of model 'two' has",
    ):
        build(declared=Declared(models=tuple(wrong)), manifest=manifest)


def test_a_manifest_that_was_never_prepared_is_named_with_the_command_that_prepares_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is missing; prepare it with: ml-assets parse"):
        read_manifest(tmp_path)

"""`ml-assets reproduce`: what it trains again, prints, stores and returns, on six weeks of real flights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.declaration.reading import Declared
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.origin import current_environment
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealing import unseal
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import TRAINING, Flow
from ml_assets.provenance import original_code as then
from ml_assets.provenance import retraining
from ml_assets.provenance.reproduction import ReproductionVerdict
from tests.builders import files_of, flights_declared, frame, project, put
from tests.cli.commands import Command
from tests.publications import newest_manifest

MODEL = "flight_delay"
Declare = Callable[[Declared], None]


@pytest.fixture
def declare(home: Path, monkeypatch: pytest.MonkeyPatch, manifest: Mapping[str, Any]) -> Declare:
    """Give the command declarations of the test's choice."""
    assert home
    assert manifest
    monkeypatch.setattr(retraining, "run_original_code", lambda *_, **__: pytest.fail("nothing has changed"))

    def declared(declared: Declared) -> None:
        for module in ("assembly", "cli.flow.project"):
            monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _: declared)

    declared(flights_declared())
    return declared


@pytest.fixture
def lake(own_flown: Path, declare: Declare) -> Lake:
    return Lake(str(own_flown))


def champion(lake: Lake) -> ArtifactRef:
    return lake.find(f"{MODEL}/model")


def rewritten(lake: Lake, ref: ArtifactRef, **fields: Any) -> None:
    """Rewrite the manifest of an artifact, as another process might have written it."""
    manifest = lake.manifest(ref).model_copy(update=fields)
    newest_manifest(lake, ref).write_bytes(manifest.text())


def verdicts(lake: Lake) -> list[ReproductionVerdict]:
    """Return the verdicts about the champion, oldest first."""
    folder = lake.path("reproductions", MODEL, champion(lake).version)
    return [
        unseal(lake.read(f"{folder}/{name}"), ReproductionVerdict, where=name, what="a verdict")
        for name in lake.names(folder)
    ]


def test_the_champion_is_reproduced_byte_for_byte_and_the_verdict_is_stored(lake: Lake, command: Command) -> None:
    before, version = files_of(lake), champion(lake).version

    text = command("reproduce", MODEL).out

    [verdict] = verdicts(lake)
    assert f"{MODEL}@{version[:12]} reproduced, byte for byte, from the inputs of its training set\n" in text
    assert f"  equal    {MODEL}/training_set {lake.find(f'{MODEL}/training_set').version[:12]}\n" in text
    assert f"  equal    {MODEL}/model {version[:12]}\n" in text
    assert f"  verdict  {lake.url}/reproductions/{MODEL}/{version}/" in text
    assert (True, "training_set", version, ()) == (verdict.is_equal, verdict.start, verdict.version, verdict.changes)
    assert [(f"{MODEL}/training_set", 1, 1), (f"{MODEL}/model", 1, 1)] == [
        (one.asset, one.artifacts, one.equal) for one in verdict.outcomes
    ]
    after = files_of(lake)
    assert before == {name: data for name, data in after.items() if not name.startswith("reproductions/")}


def test_changed_packages_and_code_are_named_with_the_verdict(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    here = current_environment()
    changed = {"digest": "f" * 32, "distributions": {**here.distributions, "lightgbm": "9.9"}}
    monkeypatch.setattr(then, "current_environment", lambda: here.model_copy(update=changed))
    ref, code = champion(lake), lake.manifest(champion(lake)).code_version
    rewritten(lake, ref, code_version="0" * 16)
    assert here.digest == lake.manifest(ref).environment

    answer = command("reproduce", f"{MODEL}@{ref.version[:6]}", "--code", "current", "--json").out

    verdict = ReproductionVerdict.model_validate_json(answer)
    was = here.distributions["lightgbm"]
    assert (f"package lightgbm was {was}, is 9.9", f"the code of {MODEL}/model was {'0' * 16}, is {code}") == (
        verdict.changes
    )
    assert verdict.is_equal
    assert [verdict] == verdicts(lake)


def test_changed_parameters_are_named_and_another_model_ends_with_1(
    lake: Lake, declare: Declare, command: Command
) -> None:
    declare(flights_declared(seed=99))

    text = command("reproduce", MODEL, "--code", "current", code=1).out
    [verdict] = verdicts(lake)
    assert f"{MODEL}@{champion(lake).version[:12]} NOT reproduced, from the inputs of its training set\n" in text
    assert f"  differs  {MODEL}/model " in text
    assert f", then {champion(lake).version[:12]}\n" in text
    assert "booster.txt: " in text
    assert f"  changed  {MODEL}/model: 'seed' was " in text
    assert not verdict.is_equal
    assert [True, False] == [one.equal == one.artifacts for one in verdict.outcomes]


def test_the_code_of_the_original_commit_is_used_unless_the_current_code_is_requested(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    requested: list[tuple[Any, ...]] = []

    def run_at(commit: str | None, words: list[str], **options: Any) -> int:
        requested.append((commit, words, options["lake"], options["was_dirty"]))
        return 1

    monkeypatch.setattr(retraining, "run_original_code", run_at)
    rewritten(lake, champion(lake), code_version="0" * 16, git_commit="c" * 40, git_is_dirty=True)

    command("reproduce", MODEL, "--json", code=1)

    wanted = ["reproduce", f"{MODEL}@{champion(lake).version}", "--from", "training_set", "--code", "current", "--json"]
    assert [("c" * 40, wanted, lake.url, True)] == requested
    assert [] == verdicts(lake)


def test_a_tampered_input_is_named_and_the_model_gets_no_verdict(lake: Lake, command: Command) -> None:
    ref = lake.find(f"{MODEL}/features", "2013-01-20")
    path = Path(lake.directory(ref)) / "data.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    printed = command("reproduce", MODEL, code=3)
    assert f"{MODEL}/training_set failed: " in printed.err
    assert f"{path} is damaged" in printed.err
    assert "a step failed, so there is no verdict" in printed.err
    assert "" == printed.out
    assert [] == verdicts(lake)


def test_a_missing_input_is_named_before_anything_runs(lake: Lake, command: Command) -> None:
    ref = lake.find(f"{MODEL}/labels", "2013-01-20")
    newest_manifest(lake, ref).unlink()

    assert (
        f"cannot be trained again: {MODEL}/labels[2013-01-20]@{ref.version[:12]} is missing"
        in command("reproduce", MODEL, code=2).err
    )


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (MODEL, f"model '{MODEL}' has no champion to reproduce; name a version: {MODEL}@VERSION"),
        (f"{MODEL}@abc", f"{MODEL}/model has no versions starting with 'abc'"),
        ("flight_dely", "there is no model 'flight_dely'"),
    ],
)
def test_a_model_that_cannot_be_reproduced_ends_with_2(
    declare: Declare, command: Command, named: str, message: str
) -> None:
    assert f"ml-assets: {message}" in command("reproduce", named, code=2).err


def test_a_model_is_reproduced_from_its_raw_tables_on(
    own_flown: Path, declare: Declare, manifest: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:  # fmt: skip
    """Dbt's part takes 15 s and is replaced: equal tables in a scratch lake are tested with replay."""
    declared = flights_declared(split={"validation_days": 1, "test_days": 5})
    declare(declared)
    made = [f"{MODEL}/{stage}" for stage in TRAINING[: TRAINING.index("model") + 1]]
    with project(LakeResource(url=str(own_flown)), declared, manifest=manifest) as whole:
        assert whole.materialize(*made, config={made[0]: {"as_of": "2013-01-08"}}).success
    lake = Lake(str(own_flown))
    version = lake.find(f"{MODEL}/model").version
    for asset in ("raw/flights", f"{MODEL}/features"):
        put(lake, frame(1), asset=asset, partition="2013-01-02")
    materialize, built = Flow._materialize, dict[str, list[str]]()

    def without_dbt(flow: Flow, groups: Any, stale: Mapping[dg.AssetKey, Sequence[str]], *given: Any) -> bool:
        tables = {key: days for key, days in stale.items() if key.path[0] == "tables"}
        for key, days in tables.items():
            built[key.to_user_string()] = [*days]
            for day in days:
                it = lake.manifest(lake.find(key.to_user_string(), day or None))
                put(flow.lake, lake.get(it.ref, pl.DataFrame), asset=it.asset, partition=it.partition, inputs=it.inputs,
                    code_version=it.code_version, parameters=it.parameters)  # fmt: skip
        return materialize(flow, groups, {key: days for key, days in stale.items() if key not in tables}, *given)

    monkeypatch.setattr(Flow, "_materialize", without_dbt)

    answer = command.json("reproduce", f"{MODEL}@{version[:8]}", "--from", "raw")
    found = {one["asset"]: (one["equal"], one["artifacts"]) for one in answer["outcomes"]}
    eight = [f"2013-01-0{n}" for n in range(1, 9)]
    assert ("raw", True, version) == (answer["start"], answer["is_equal"], answer["version"])
    assert {(1, 1), (8, 8)} == {*found.values()}
    assert (8, 8) == found["tables/flight_features"] == found[f"{MODEL}/features"]
    assert (eight, [""]) == (built["tables/flight_features"], built["tables/stg_airports"])
    assert {*made, "tables/stg_airports", "tables/flight_outcomes", f"{MODEL}/labels"} <= found.keys()
    assert not any(asset.startswith("raw/") for asset in {*found, *built})

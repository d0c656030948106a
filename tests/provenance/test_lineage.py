"""Lineage followed from manifest to manifest, backward and forward."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.store import Lake
from ml_assets.provenance.lineage import Lineage, backward, code_behind, key_of, newest_node
from ml_assets.provenance.tracing.touched import all_versions, forward
from tests.builders import frame, put
from tests.provenance.lakes import Chronicle, shop, version


@pytest.fixture
def chronicle(tmp_path: Path) -> Chronicle:
    return shop(tmp_path)


def assets(lineage: Lineage) -> list[str]:
    return sorted(f"{asset}/{partition}".rstrip("/") for asset, partition, _ in lineage.nodes)


def the(chronicle: Chronicle, asset: str, partition: str | None = None) -> ArtifactRef:
    """Return the last artifact of an asset."""
    return [it for it in chronicle.made if it.asset == asset and partition in {None, it.partition}][-1]


def test_the_code_behind_an_artifact_is_that_of_its_whole_lineage(lake: Lake) -> None:
    raw = put(lake, frame(1), asset="raw", partition="2013-01-05", code_version="landing").ref
    middle = [
        put(lake, frame(n), asset="middle", partition=day, code_version="recent", inputs=(raw,)).ref
        for n, day in enumerate(("2013-01-04", "2013-01-05"))
    ]
    mart = put(lake, frame(9), asset="mart", partition="2013-01-05", code_version="join", inputs=(raw, *middle)).ref

    assert {"raw": "landing", "middle": "recent", "mart": "join"} == code_behind(lake, mart)


def test_the_backward_lineage_of_a_model_is_complete_and_has_nothing_else(chronicle: Chronicle) -> None:
    found = backward(chronicle.lake, [the(chronicle, "shop/model")])

    assert [
        "raw/orders/2026-10-01", "raw/orders/2026-10-02", "raw/shops", "shop/features/2026-10-01",
        "shop/features/2026-10-02", "shop/model", "shop/training_set", "tables/stg_orders/2026-10-01",
        "tables/stg_orders/2026-10-02",
    ] == assets(found)  # fmt: skip
    assert found.is_whole


def test_forward_finds_all_that_a_day_went_into_and_nothing_else(chronicle: Chronicle) -> None:
    found = forward(chronicle.lake, [the(chronicle, "raw/orders", "2026-10-01")])

    assert [
        "raw/orders/2026-10-01", "shop/evaluation", "shop/features/2026-10-01", "shop/model",
        "shop/predictions/2026-10-02", "shop/training_set", "tables/stg_orders/2026-10-01",
    ] == assets(found)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(st.sets(st.integers(0, 11), max_size=4), min_size=1, max_size=12))
def test_forward_is_backward_read_the_other_way(
    tmp_path_factory: pytest.TempPathFactory, reads: list[set[int]]
) -> None:
    chronicle = Chronicle(tmp_path_factory.mktemp("lake"))
    for number, them in enumerate(reads):
        inputs = [chronicle.made[it] for it in sorted(them) if it < number]
        # Content that is the same in every asset: a version alone does not say whose it is.
        chronicle.make(f"a/n{number}", None, inputs, version=version("same"))

    reached = {(a, b) for a in chronicle.made for b in backward(chronicle.lake, [a]).nodes}
    touched = {(a, b) for b in chronicle.made for a in forward(chronicle.lake, [b]).nodes}

    assert {(key_of(a), b) for a, b in reached} == {(a, key_of(b)) for a, b in touched}


def test_of_two_materializations_of_an_artifact_the_one_that_was_read_is_followed(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    old, new = (chronicle.make("raw/orders", "2026-10-01") for _ in range(2))
    same = version("same")
    table = chronicle.make("tables/orders", "2026-10-01", [old], version=same)
    before = chronicle.make("shop/model", None, [table])
    chronicle.make("tables/orders", "2026-10-01", [new], version=same)
    after = chronicle.make("shop/model", None, [table])

    assert (True, False) == tuple(key_of(it) in backward(chronicle.lake, [before]).nodes for it in (old, new))
    assert (False, True) == tuple(key_of(it) in backward(chronicle.lake, [after]).nodes for it in (old, new))
    assert (False, True) == tuple(key_of(it) in forward(chronicle.lake, [new]).nodes for it in (before, after))
    assert (True, False) == tuple(key_of(it) in forward(chronicle.lake, [old]).nodes for it in (before, after))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rows": 10', b'"rows": 11'))


@pytest.mark.parametrize(
    ("harm", "state", "problem"),
    [
        (shutil.rmtree, "missing", "the lake has no manifest of it"),
        (lambda folder: damage(*folder.iterdir()), "corrupt", "was edited"),
        (lambda folder: next(folder.iterdir()).write_text("{}"), "corrupt", "is not a manifest"),
        (lambda folder: next(folder.iterdir()).write_bytes(b"\xff\xfe"), "corrupt", "is not a manifest"),
    ],
)
def test_unreadable_manifests_are_reported_and_do_not_end_the_trace(
    chronicle: Chronicle, harm: Callable[[Path], Any], state: str, problem: str
) -> None:
    harmed = the(chronicle, "tables/stg_orders", "2026-10-01")
    harm(chronicle.folder(harmed))

    found = backward(chronicle.lake, [the(chronicle, "shop/model")])

    node = found.nodes[key_of(harmed)]
    assert state == node.state
    assert problem in node.problem
    assert not found.is_whole
    assert 8 == len(found.nodes)


def test_a_damaged_manifest_anywhere_is_reported_forward_for_it_may_have_been_touched(chronicle: Chronicle) -> None:
    damage(chronicle.manifest(the(chronicle, "shop/features", "2026-10-01")))

    found = forward(chronicle.lake, [the(chronicle, "raw/orders", "2026-10-01")])

    assert ["raw/orders/2026-10-01", "tables/stg_orders/2026-10-01"] == assets(found)
    assert 1 == len(found.problems)
    assert "was edited" in found.problems[0]
    assert not found.is_whole


def test_a_manifest_that_speaks_of_another_artifact_is_corrupt_both_ways(chronicle: Chronicle) -> None:
    one, other = (the(chronicle, "shop/features", day) for day in ("2026-10-01", "2026-10-02"))
    shutil.copy(chronicle.manifest(other), chronicle.manifest(one))

    assert "corrupt" == backward(chronicle.lake, [the(chronicle, "shop/model")]).nodes[key_of(one)].state
    assert "another artifact" in forward(chronicle.lake, [other]).problems[0]


def test_removed_artifacts_are_followed_by_their_remaining_manifests(chronicle: Chronicle) -> None:
    gone = the(chronicle, "shop/training_set")
    target = chronicle.folder(gone, "removed")
    target.parent.mkdir(parents=True)
    chronicle.folder(gone).rename(target)

    back = backward(chronicle.lake, [the(chronicle, "shop/model")])
    on = forward(chronicle.lake, [the(chronicle, "raw/shops")])

    assert ("removed", "removed") == (back.nodes[key_of(gone)].state, on.nodes[key_of(gone)].state)
    assert back.is_whole
    assert on.is_whole
    assert 9 == len(back.nodes)
    assert [gone] == [manifest.ref for manifest in newest_node(chronicle.lake, key_of(gone)).makings]
    assert [gone] == all_versions(chronicle.lake, "shop/training_set")


def test_the_state_of_a_manifest_is_kept_missing_or_corrupt(chronicle: Chronicle) -> None:
    model, training = the(chronicle, "shop/model"), the(chronicle, "shop/training_set")
    shutil.rmtree(chronicle.folder(model))
    chronicle.manifest(training).write_text("{")

    found = [newest_node(chronicle.lake, key_of(ref)) for ref in (model, training)]

    assert ["missing", "corrupt"] == [node.state for node in found]
    assert "the lake has no manifest of it" == found[0].problem
    assert "is not a manifest" in found[1].problem


def test_inputs_in_a_circle_end(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    one, other = (ArtifactRef(asset=f"a/{name}", version=version(name)) for name in ("one", "other"))
    chronicle.make("a/one", None, [other, one], version=one.version)
    chronicle.make("a/other", None, [one], version=other.version)

    assert ["a/one", "a/other"] == assets(backward(chronicle.lake, [one]))
    assert ["a/one", "a/other"] == assets(forward(chronicle.lake, [one]))


def test_a_chain_is_as_long_as_it_is(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    last = chronicle.make("a/day", "0")
    for number in range(1, 1100):
        last = chronicle.make("a/day", str(number), [last])

    assert 1100 == len(backward(chronicle.lake, [last]).nodes)
    assert 1100 == len(forward(chronicle.lake, [chronicle.made[0]]).nodes)


def test_a_manifest_with_an_input_outside_the_lake_is_corrupt(tmp_path: Path) -> None:
    chronicle = shop(tmp_path / "lake")
    model = the(chronicle, "shop/model")
    manifest = chronicle.manifest(model)
    made = Manifest.read(manifest.read_bytes(), "here")
    outside = made.inputs[0].model_copy(update={"asset": "../training_set"})
    manifest.write_bytes(made.model_copy(update={"inputs": (outside,)}).text())

    node = backward(chronicle.lake, [model]).nodes[key_of(model)]

    assert "corrupt" == node.state
    assert "is not a name inside the lake" in node.problem


def test_a_manifest_of_a_million_inputs_is_rejected_before_it_fills_memory(chronicle: Chronicle) -> None:
    model = the(chronicle, "shop/model")
    manifest = chronicle.manifest(model)
    one = b'{"asset": "a/b", "partition": null, "version": "%032x"},'
    with manifest.open("wb") as file:
        file.write(b'{"inputs": [')
        file.truncate(len(one) * 1_500_000)  # a hole: it costs neither disk nor time

    node = backward(chronicle.lake, [model]).nodes[key_of(model)]

    assert "corrupt" == node.state
    assert str(manifest) in node.problem
    assert f"{MOST_BYTES:,}" in node.problem


def test_all_removed_inputs_are_reported_as_missing(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    model = chronicle.make(
        "a/model", None, [ArtifactRef(asset="a/day", partition=str(n), version=version(n)) for n in range(5_000)]
    )

    found = backward(chronicle.lake, [model])

    assert 5_001 == len(found.nodes)
    assert {"present", "missing"} == {node.state for node in found.nodes.values()}


def test_on_s3_lineage_is_the_same(
    tmp_path: Path, s3: Callable[[str], Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.provenance.lineage._MANY", 2)  # more than that are listed at once
    chronicle = shop(tmp_path)
    many = [chronicle.make("raw/orders", f"2027-{n:03d}") for n in range(4)]
    model = chronicle.make("shop/model", None, [*many, the(chronicle, "shop/training_set")])
    there = Manifests("s3://trace", s3("trace"))
    for path in tmp_path.rglob("*.json"):
        there.create(there.path(str(path.relative_to(tmp_path))), path.read_bytes())

    assert backward(chronicle.lake, [model]).nodes == backward(there, [model]).nodes
    assert forward(chronicle.lake, many[:1]).nodes == forward(there, many[:1]).nodes

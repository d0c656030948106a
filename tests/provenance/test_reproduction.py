"""How a model was trained, by its manifests, and the verdict on its reproduction."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.scratch import ScratchLake
from ml_assets.lake.sealing import unseal
from ml_assets.lake.store import Lake
from ml_assets.provenance.reproduction import REPRODUCTIONS, Recorded, ReproductionVerdict, outcomes, store_verdict
from ml_assets.provenance.reproduction import parameter_differences as differences
from tests.builders import frame, put
from tests.provenance.lakes import START, Chronicle, shop

DAYS = ("2026-10-01", "2026-10-02")


def whole(root: Path) -> tuple[Chronicle, ArtifactRef]:
    """Return the shop's lake with a model that has a tuning made from importances, as a declared one has."""
    chronicle = shop(root)
    training = the(chronicle, "shop/training_set")
    importances = chronicle.make("shop/importances", None, [training])
    tuning = chronicle.make("shop/tuning", None, [training, importances])
    model = chronicle.make("shop/model", None, [training, tuning], parameters={"seed": 1}, rows=None)
    return chronicle, model


def the(chronicle: Chronicle, asset: str, day: str | None = None) -> ArtifactRef:
    return next(ref for ref in chronicle.made if ref.asset == asset and day in {None, ref.partition})


def lake_of(chronicle: Chronicle) -> Lake:
    return Lake(str(chronicle.root))


def recorded(chronicle: Chronicle, model: ArtifactRef, start: Any = "raw") -> Recorded:
    return Recorded.of(lake_of(chronicle), "shop", model, start)


def names(pins: dict[tuple[str, str], ArtifactRef]) -> set[tuple[str, str]]:
    return set(pins)


# ---------------------------------------------------------------- how it was made


def test_the_manifests_record_the_assets_and_days_of_the_original_run(tmp_path: Path) -> None:
    chronicle, model = whole(tmp_path)

    found = recorded(chronicle, model)

    assert model == found.manifest.ref
    assert the(chronicle, "shop/training_set") == found.stage("training_set").ref
    assert DAYS == found.days
    assert {"seed": 1} == found.parameters()["shop/model"]
    assert {"shop/model": "code-model", "raw/orders": "code-rders"} == found.code_versions(["shop/model", "raw/orders"])


@pytest.mark.parametrize(
    ("start", "remade", "pinned"),
    [
        (
            "training_set",
            ["shop/training_set", "shop/model"],
            {("shop/features", day) for day in DAYS} | {("shop/tuning", "")},
        ),
        (
            "raw",
            [*(f"shop/{it}" for it in ("features", "importances", "model", "training_set", "tuning")),
             "tables/stg_orders"],
            {("raw/orders", day) for day in DAYS} | {("raw/shops", "")},
        ),
    ],
)  # fmt: skip
def test_the_start_decides_which_assets_are_materialized_again_and_which_are_reused(
    tmp_path: Path, start: Any, remade: list[str], pinned: set[tuple[str, str]]
) -> None:
    chronicle, model = whole(tmp_path / "lake")
    found = recorded(chronicle, model, start)

    scratch = found.scratch(lake_of(chronicle), start, tmp_path / "scratch")

    assert remade == found.remade(start)
    assert pinned == names(scratch.pins)
    assert {} == scratch.newest("shop/model")
    assert {"raw/orders", *remade} <= scratch.hidden
    assert found.manifest.created_at == scratch.now()


def test_the_newest_raw_rows_and_all_released_rows_that_were_used_are_reused(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path / "lake")
    old, new = (chronicle.make("raw/orders", DAYS[0], version=letter * 32) for letter in "ba")
    released = [chronicle.make("tables/orders__released", DAYS[0]) for _ in range(2)]
    tables = [
        chronicle.make("tables/orders", DAYS[0], [raw, one]) for raw, one in zip((old, new), released, strict=True)
    ]
    training = chronicle.make("shop/training_set", None, tables)
    model = chronicle.make("shop/model", None, [training])

    scratch = recorded(chronicle, model).scratch(lake_of(chronicle), "raw", tmp_path / "scratch")

    assert {DAYS[0]: new} == scratch.newest("raw/orders")
    assert {DAYS[0]: sorted(released, key=lambda ref: ref.version)} == scratch.versions("tables/orders__released")


def test_the_training_set_is_the_one_that_the_model_was_trained_on(tmp_path: Path) -> None:
    """The tuning of an older training set stays when only the training set and the model are materialized again."""
    chronicle, _ = whole(tmp_path)
    features = [the(chronicle, "shop/features", day) for day in DAYS]
    newer = chronicle.make("shop/training_set", None, features)
    model = chronicle.make("shop/model", None, [newer, the(chronicle, "shop/tuning")])

    assert newer == recorded(chronicle, model).stage("training_set").ref


@pytest.mark.parametrize(("count", "words"), [(0, "from 0 versions"), (2, "from 2 versions")])
def test_a_model_without_exactly_one_training_set_is_rejected(tmp_path: Path, count: int, words: str) -> None:
    chronicle = Chronicle(tmp_path)
    model = chronicle.make("shop/model", None, [chronicle.make("shop/training_set") for _ in range(count)])

    with pytest.raises(DataError, match=rf"shop/model@{model.version[:12]} was built {words} of shop/training_set"):
        recorded(chronicle, model, "training_set")


def test_missing_artifacts_are_named_if_they_are_needed(tmp_path: Path) -> None:
    chronicle, model = whole(tmp_path)
    for day in DAYS:
        shutil.rmtree(chronicle.folder(the(chronicle, "raw/orders", day)))

    assert DAYS == recorded(chronicle, model, "training_set").days
    with pytest.raises(
        DataError,
        match=rf"{model} cannot be trained again: raw/orders\[.*\]@.* is missing \(.*\); raw/orders.* is missing",
    ):
        recorded(chronicle, model, "raw")


@pytest.mark.parametrize("asset", ["shop/features", "shop/tuning", "shop/training_set", "shop/model"])
def test_the_training_sets_inputs_are_needed_from_wherever_one_starts(tmp_path: Path, asset: str) -> None:
    chronicle, model = whole(tmp_path)
    gone = model if asset == "shop/model" else the(chronicle, asset)
    chronicle.manifest(gone).write_text("{}")

    for start in ("training_set", "raw"):
        with pytest.raises(
            DataError, match=rf"cannot be trained again: {asset}(\[.*\])?@{gone.version[:12]} is corrupt"
        ):
            recorded(chronicle, model, start)


def test_of_many_missing_artifacts_three_are_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    gone = [ArtifactRef(asset="shop/features", partition=f"2026-10-0{n}", version="a" * 32) for n in range(1, 6)]
    training = chronicle.make("shop/training_set", None, gone)
    model = chronicle.make("shop/model", None, [training])

    with pytest.raises(DataError, match=r"(is missing .*){3}; and 2 more\."):
        recorded(chronicle, model, "training_set")


# ---------------------------------------------------------------- the verdict


def test_declared_parameters_that_were_otherwise_are_named() -> None:
    then = {"shop/model": {"seed": 1, "training": {"threads": 2}, "as_of": "2026-10-02"}, "shop/gone": {"a": 1}}
    now = {"shop/model": {"seed": 2, "training": {"threads": 2}, "new": True}, "shop/other": {"a": 2}}

    assert [
        "shop/model: 'seed' was 1, is declared as 2",
        "shop/model: 'new' was None, is declared as True",
    ] == differences(then, now)


def test_differences_are_reported_by_asset(tmp_path: Path) -> None:
    source = Lake(str(tmp_path / "lake"))
    days = [put(source, frame(n), asset="shop/features", partition=f"2026-10-0{n}").ref for n in range(1, 7)]
    training = put(source, frame(1), asset="shop/training_set", inputs=tuple(days)).ref
    model = put(source, frame(7), asset="shop/model", inputs=(training,))
    found = Recorded.of(source, "shop", model.ref, "raw")
    scratch = ScratchLake(tmp_path / "scratch", source, at=model.created_at)

    for n in range(1, 7):
        put(scratch, frame(n + (n > 1)), asset="shop/features", partition=f"2026-10-0{n}")
    put(scratch, frame(1), asset="shop/training_set")
    new = put(scratch, frame(8), asset="shop/model").ref
    put(scratch, frame(9), asset="shop/beside")

    features, trained, again = outcomes(found, source, scratch)
    assert ("shop/features", 6, 1, None, None) == (
        features.asset, features.artifacts, features.equal, features.original_version, features.reproduced_version,
    )  # fmt: skip
    assert [f"2026-10-0{n}: data.parquet: of 1 rows, n in 1, word in 1" for n in (2, 3, 4)] == [*features.differences]
    assert (1, 1, training.version, training.version, ()) == (
        trained.artifacts, trained.equal, trained.original_version, trained.reproduced_version, trained.differences,
    )  # fmt: skip
    assert ("shop/model", 0, model.version, new.version, ("data.parquet: of 1 rows, n in 1, word in 1",)) == (
        again.asset, again.equal, again.original_version, again.reproduced_version, again.differences,
    )  # fmt: skip


def test_several_verdicts_of_a_model_are_stored(lake: Lake) -> None:
    verdict = ReproductionVerdict(
        model="shop", version="a" * 32, start="raw", is_equal=True, outcomes=(), environment="e", seconds=1.5,
        decided_at=datetime(2026, 11, 1, 3, tzinfo=UTC),
    )  # fmt: skip
    later = verdict.model_copy(update={"is_equal": False, "decided_at": START + timedelta(days=1)})

    paths = [store_verdict(lake, one) for one in (verdict, verdict, later)]

    assert 3 == len({*paths})
    assert max(paths) == paths[2]
    assert [verdict, verdict, later] == [
        unseal(lake.read(path), ReproductionVerdict, where=path, what="a verdict") for path in paths
    ]
    assert 3 == len(lake.names(lake.path(REPRODUCTIONS, "shop", "a" * 32)))
    assert paths[0].rsplit("/", 1)[1].startswith("20261101T030000Z-")

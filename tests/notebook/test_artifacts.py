"""What a notebook reads: artifacts by name, period and version, and training sets as of a day."""

import subprocess
import sys
from datetime import date, timedelta
from typing import get_args

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import DataError
from ml_assets.declaration.parts import Stage
from ml_assets.lake.content import content_version, parts_of
from ml_assets.lake.store import Lake, Origin
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training_rows import training_set_in
from ml_assets.notebook.artifacts import KINDS, load_artifact
from tests.stages.shop import DAYS, FIRST, Trained, feature_rows


def test_each_stage_has_the_type_that_it_stores() -> None:
    assert set(get_args(Stage)) == set(KINDS)


def test_the_current_artifact_is_read_by_model_and_name(shop_lake: Lake, trained: Trained) -> None:
    assert trained.tuning.best == load_artifact("returns", "tuning", lake=shop_lake).best
    assert trained.tuning.best == load_artifact("returns", "tuning", lake=shop_lake.url).best


def test_a_table_by_day_is_read_as_one_frame(shop_lake: Lake) -> None:
    rows = feature_rows()
    second, third = (str(FIRST + timedelta(days=n)) for n in (1, 2))

    assert_frame_equal(rows, load_artifact("returns", "features", lake=shop_lake))
    assert_frame_equal(
        rows.filter(pl.col("day") == date.fromisoformat(second)),
        load_artifact("returns", "features", second, lake=shop_lake),
    )
    assert_frame_equal(
        rows.filter(pl.col("day").is_between(date.fromisoformat(second), date.fromisoformat(third))),
        load_artifact("returns", "features", (second, third), lake=shop_lake),
    )


def test_an_earlier_version_is_read_by_its_first_characters(empty_lake: Lake) -> None:
    versions = [empty_lake.put("raw/shops", None, pl.DataFrame({"n": [n]}), Origin()).version for n in (1, 2)]

    assert [2] == load_artifact("raw", "shops", lake=empty_lake)["n"].to_list()
    assert [1] == load_artifact("raw", "shops", version=versions[0][:8], lake=empty_lake)["n"].to_list()


def test_what_the_champion_was_built_from_and_what_was_built_from_it_is_read(shop_lake: Lake, trained: Trained) -> None:
    other = trained.tuning.best.model_copy(update={"rounds": 1})
    shop_lake.put("returns/tuning", None, type(trained.tuning)(trained.tuning.trials, other), Origin())

    read = {
        stage: load_artifact("returns", stage, version="champion", lake=shop_lake)
        for stage in ("model", "tuning", "training_set", "evaluation")
    }

    assert trained.model.booster == read["model"].booster
    assert trained.tuning.best == read["tuning"].best
    assert trained.evaluation.summary == read["evaluation"].summary
    shop_lake.put("returns/tuning", None, trained.tuning, Origin())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("returs", "model"), "has no artifact returs/model (did you mean 'returns'?); it has artifacts of returns."),
        (("returns", "modell"), "has no artifact returns/modell (did you mean 'model'?); returns has "),
        (
            ("returns", "features", "2023-01-01"),
            "features of 2023-01-01; there are 50 periods from 2024-01-01",
        ),
    ],
)
def test_an_artifact_that_does_not_exist_is_reported_with_what_there_is(
    shop_lake: Lake, arguments: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(DataError) as raised:
        load_artifact(*arguments, lake=shop_lake)

    assert expected in str(raised.value)


def test_a_version_that_does_not_exist_is_reported_with_those_that_do(shop_lake: Lake) -> None:
    known = load_artifact("returns", "model", version="champion", lake=shop_lake)
    [version] = {it.version for it in shop_lake.publications("returns/model")[""]}

    with pytest.raises(DataError, match=f"no version 'fff' of returns/model; it has {version[:12]}"):
        load_artifact("returns", "model", version="fff", lake=shop_lake)
    assert known.spec.model == "returns"


def test_the_training_set_is_that_of_the_asset(shop_lake: Lake, plan: ModelPlan, trained: Trained) -> None:
    found = training_set_in(shop_lake, plan, None)

    assert content_version(parts_of(trained.training_set)) == content_version(parts_of(found))


def test_a_training_set_as_of_an_earlier_day_has_no_later_label(shop_lake: Lake, plan: ModelPlan) -> None:
    as_of = FIRST + timedelta(days=DAYS - 11)

    found = training_set_in(shop_lake, plan, as_of)

    assert as_of == found.summary.as_of
    assert found.rows["known_at"].max().date() <= as_of
    assert as_of - timedelta(days=9) == min(found.part("test")["day"])


def test_a_training_set_over_missing_days_is_refused(empty_lake: Lake, plan: ModelPlan) -> None:
    rows = feature_rows().filter(pl.col("day") != FIRST + timedelta(days=3))
    for stage in ("features", "labels"):
        empty_lake.put_each(
            f"returns/{stage}",
            {str(day): (part, Origin()) for (day,), part in rows.partition_by("day", as_dict=True).items()},
        )

    with pytest.raises(DataError, match=r"2024-01-04.* is missing, so returns cannot be trained"):
        training_set_in(empty_lake, plan, None)


def test_neither_dagster_nor_dbt_is_imported_and_the_package_itself_imports_nothing() -> None:
    code = """
import sys, ml_assets
assert not {"polars", "pydantic", "numpy"} & {*sys.modules}
ml_assets.load_artifact, ml_assets.load_training_set, ml_assets.load_champion, ml_assets.try_features
found = {"dagster", "dbt", "lightgbm", "pandera", "matplotlib"} & {*sys.modules}
assert not found, found
"""

    subprocess.run([sys.executable, "-c", code], check=True)

"""`ml-assets predict`: the scores of a file's rows are those of the champion, in the order of the file."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from ml_assets.cli.main import main
from ml_assets.lake.store import Lake
from ml_assets.notebook.champion import load_champion
from tests.stages.shop import feature_rows


@pytest.fixture
def rows(shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Rows to score, in a folder of their own, with the lake of their model."""
    monkeypatch.setenv("ML_ASSETS_LAKE", shop_lake.url)
    # In a folder of a project, paths begin where one stands.
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    (tmp_path / "rows").mkdir()
    monkeypatch.chdir(tmp_path / "rows")
    contract = load_champion("returns", lake=shop_lake).contract
    return feature_rows().head(20).select("order_id", *contract.names)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_of_every_format_have_the_champion_s_scores_beside_their_key(
    rows: pl.DataFrame, shop_lake: Lake, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    {"csv": rows.write_csv, "jsonl": rows.write_ndjson, "parquet": rows.write_parquet}[ending](f"in.{ending}")

    assert 0 == main(["predict", "returns", "--input", f"in.{ending}", "--output", f"out.{ending}"])

    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[ending]
    champion = load_champion("returns", lake=shop_lake)
    expected = pl.concat([rows.select("order_id"), champion.predict(rows)], how="horizontal")
    assert_frame_equal(expected, read(f"out.{ending}"), check_exact=True)
    said = f"20 rows scored by returns {champion.version[:12]}, written to out.{ending}\n"
    assert said == capsys.readouterr().err
    assert {f"in.{ending}", f"out.{ending}"} == {it.name for it in Path().iterdir()}


def test_an_explanation_has_what_each_feature_adds_to_the_score(rows: pl.DataFrame, shop_lake: Lake) -> None:
    rows.write_parquet("in.parquet")

    assert 0 == main(["predict", "returns", "--input", "in.parquet", "--output", "out.parquet", "--explain"])

    champion = load_champion("returns", lake=shop_lake)
    found, expected = pl.read_parquet("out.parquet"), champion.explain(rows)
    assert_frame_equal(expected, found.select(expected.columns), check_exact=True)
    log_odds = expected.sum_horizontal()
    assert_series_equal(found["score"], 1 / (1 + (-log_odds).exp()), check_names=False)


def test_without_an_output_the_scores_are_printed_as_csv(
    rows: pl.DataFrame, shop_lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.head(2).write_csv("in.csv")

    assert 0 == main(["predict", "returns", "--input", "in.csv"])

    scores = load_champion("returns", lake=shop_lake).predict(rows.head(2))["score"]
    lines = [f"{key},{score}" for key, score in zip(rows["order_id"], scores, strict=False)]
    assert ["order_id,score", *lines] == capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("changed", "arguments", "expected"),
    [
        (pl.lit("many").alias("items"), (), "'items' has 20 values that are not bigint, the first on line 2 ('many')"),
        (pl.lit(-1).alias("items"), (), "rule 'items is at least 0' of table 'order_features' is broken in 20 of 20"),
        (pl.lit(1).alias("score"), (), "in.csv has a column 'score', as the scores have; rename it."),
        (pl.col("items"), ("--output", "out.txt"), "--output is 'out.txt'; expected a name that ends in .csv, .jsonl"),
        (
            pl.col("items"),
            ("--output", "no/out.csv"),
            "--output no/out.csv cannot be written: No such file or director",
        ),
        (pl.col("items"), ("--input", "no.csv"), "--input is 'no.csv', which is no file; expected a file or a URL"),
        (pl.lit("Köln").alias("town"), (), "/in.csv line 2 has bytes that are not utf-8"),
    ],
)
def test_what_cannot_be_scored_is_reported_and_nothing_is_written(
    rows: pl.DataFrame, changed: pl.Expr, arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_bytes(rows.with_columns(changed).write_csv().encode("latin-1"))

    assert 2 == main(["predict", "returns", "--input", "in.csv", *arguments])

    assert expected in capsys.readouterr().err
    assert ["in.csv"] == [it.name for it in Path().iterdir()]


def test_parquet_may_have_narrower_types_and_is_refused_where_a_value_would_change(
    rows: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.with_columns(pl.col("items").cast(pl.Int32)).write_parquet("in.parquet")
    assert 0 == main(["predict", "returns", "--input", "in.parquet", "--output", "narrow.csv"])
    rows.write_parquet("in.parquet")
    assert 0 == main(["predict", "returns", "--input", "in.parquet", "--output", "wide.csv"])
    assert Path("wide.csv").read_text() == Path("narrow.csv").read_text()

    rows.with_columns(items=pl.lit(1.5)).write_parquet("in.parquet")
    assert 2 == main(["predict", "returns", "--input", "in.parquet"])
    reported = capsys.readouterr().err
    assert "'items' is double, and 20 of its values are not exactly representable as bigint" in reported
    assert "no format is declared" not in reported


def test_a_damaged_parquet_file_is_reported(rows: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    rows.write_parquet("in.parquet")
    Path("in.parquet").write_bytes(Path("in.parquet").read_bytes()[:-20])

    assert 2 == main(["predict", "returns", "--input", "in.parquet"])

    assert "/in.parquet is not readable as Parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        (pl.concat_list("order_id"), [".csv"]),
        (pl.duration(days=1), [".csv"]),
        (pl.lit("a").cast(pl.Binary), [".csv", ".jsonl"]),
    ],
)
def test_a_column_that_a_format_cannot_hold_is_refused(
    rows: pl.DataFrame, other: pl.Expr, refused: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows.with_columns(other=other).write_parquet("in.parquet")

    for ending in (".csv", ".jsonl", ".parquet"):
        code = main(["predict", "returns", "--input", "in.parquet", "--output", f"out{ending}"])
        assert (2 if ending in refused else 0) == code
        assert (ending in refused) == (f"which a {ending} file cannot hold" in capsys.readouterr().err)

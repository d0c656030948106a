"""`ml-assets new`: the evidence, the files, the second time, and what is refused."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.cli.flow.project import read_declarations, read_table_contracts
from ml_assets.cli.init import project_files, write_new
from ml_assets.cli.main import main
from ml_assets.lake.store import Lake
from ml_assets.stages.raw_source import RawSource
from tests.builders import put
from tests.logic.inspection.tables import orders


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    write_new(folder, project_files("shop", is_bare=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(folder))
    rows = orders(2_000).with_columns(refund=pl.col("returned") * pl.col("amount"))
    rows.rename({"order_id": "Order ID"}).write_csv(folder / "orders.csv", separator=";")
    return folder


def files(root: Path) -> set[str]:
    written = [it for it in root.rglob("*") if it.is_file() and "target" not in it.parts and "logs" not in it.parts]
    return {str(it.relative_to(root)) for it in written}


WRITTEN = {
    "defs/returns/defs.yaml", "defs/returns_raw/defs.yaml", "defs/returns_tables/defs.yaml",
    "dbt_project/models/returns/_returns.yml", "dbt_project/models/returns/stg_returns.sql",
    "dbt_project/models/returns/returns_features.sql", "dbt_project/models/returns/returns_outcomes.sql",
    "notebooks/returns.ipynb", "tests/test_returns.py",
}  # fmt: skip
NEW = ("new", "returns", "--table", "orders.csv", "--target", "returned", "--yes")


def test_a_model_is_written_with_its_evidence_shown_again_without_a_difference_and_removed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project)

    assert 0 == main([*NEW])
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {*WRITTEN, ".ml-assets/new/returns.json"} == {it for it in files(project) - before if ".dagster" not in it}
    for line in (
        "format delimiter ';' every line reads with it sure",
        "key Order ID each of its 2,000 values occurs once sure",
        "label known at 1d no column says when; a day is waited uncertain",
        "refund copy of the target left out each of its values belongs to one value of the target",
        "before training: 2,000 rows over 100 days, of which about 4",
        "ml-assets run returns",
    ):
        assert any(it.startswith(line) for it in printed), line
    declaration = (project / "defs" / "returns" / "defs.yaml").read_text(encoding="utf-8")
    assert "known_time: label_known_at  # chosen because no column says when" in declaration
    assert '      refund: "copy of the target: each of its values belongs to one value of the target' in declaration

    assert 0 == main([*NEW])
    assert "every file is there, as it would be written" in capsys.readouterr().out
    assert 1 == main([*NEW, "--horizon", "3d"])
    again = capsys.readouterr().out
    assert {"-    maturity_days: 1", "+    maturity_days: 3"} <= {*again.splitlines()}
    assert "9 files with these names exist, so nothing was written" in again
    assert 0 == main(["new", "returns", "--undo"])
    assert before == {it for it in files(project) if ".dagster" not in it}


def test_several_files_of_json_are_landed_as_they_were_inspected(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = orders(2_000).rename({"amount": "to.amount"})
    (project / "in").mkdir()
    for n in range(2):
        part = rows.slice(n * 1_000, 1_000).select(pl.all().exclude("to.amount"), to=pl.struct(amount="to.amount"))
        part.write_ndjson(project / "in" / f"{n}.jsonl")

    assert 0 == main(["new", "returns", "--table", "in", "--target", "returned", "--yes"])

    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "files 2, JSON all have the same columns sure" in printed
    declared = read_declarations()
    [raw] = declared.raw
    source = RawSource("returns", raw.tables["returns"], read_table_contracts()["raw/returns"], raw.days)
    assert "in/" == source.table.file
    landed = source.read(Lake(str(project / ".lake")), ("2024-01-01", "2024-04-08")).rows
    assert_frame_equal(rows, pl.concat(landed.values()).select(rows.columns))


def test_a_dry_run_shows_the_files_and_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pl.read_csv(project / "orders.csv", separator=";").drop("Order ID")
    is_unknown = pl.int_range(pl.len()) % 9 == 0
    amounts = rows.with_columns(amount=pl.when(is_unknown).then(pl.lit("unknown")).otherwise(pl.col("amount")))
    pl.concat([amounts, amounts.head(1)]).write_csv(project / "orders.csv", separator=";")
    before = files(project)

    assert 0 == main([*NEW, "--dry-run"])

    printed = capsys.readouterr().out
    assert "+++ dbt_project/models/returns/stg_returns.sql (new)" in printed
    assert before == files(project)
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "missing values 'unknown' beside numbers, times or Booleans likely" in lines
    assert "key row_key no columns identify a row; equal rows cannot be told apart uncertain" in lines


def test_a_model_that_contradicts_the_project_is_not_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = project / "dbt_project" / "models" / "marts" / "returns_features.sql"
    sql.write_text("select 1 as x\n", encoding="utf-8")
    before = files(project)

    assert 2 == main([*NEW])

    assert "the project would have these errors, so nothing was written:" in capsys.readouterr().err
    assert before == {it for it in files(project) if ".dagster" not in it}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Returns"], "'Returns' cannot be the name of a model; expected at most 51 lower-case letters"),
        (["returns", "--table", "orders.csv"], "--target is missing. Use: ml-assets new returns --table FILE --target"),
        (["returns", "--table", "order.csv", "--target", "x"], "--table is 'order.csv', which does not exist"),
        (["returns", "--table", "orders.csv", "--target", "return"], "--target is 'return'; expected a column"),
        (["returns", "--table", "quoted.csv", "--target", "b"], "quoted.csv: column 'a\"b' has a name with a double"),
        (["returns", "--table", "jinja.csv", "--target", "b"], "column '{{ a }}' has a name that dbt reads as a templ"),
        (["returns", "--table", "short.csv", "--target", "b"], "short.csv has no rows; expected a header"),
        (["returns", "--table", "nowhere.csv", "--target", "returned", "--horizon", "soon"], "--horizon is 'soon'"),
        (
            ["returns", "--table", "data.json", "--target", "b"],
            "data.json element 1 is a single value; expected an object",
        ),
        (["returns", "--table", "list.json", "--target", "b"], "--target is 'b', which cannot be read: it is an array"),
        (["returns", "--table", "data/", "--target", "b"], "--table is 'data/', which does not exist"),
        (["returns", "--undo"], "there is no record of a model 'returns'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (project / "quoted.csv").write_text('"a""b",b\n1,2\n', encoding="utf-8")
    (project / "short.csv").write_text("a,b\n", encoding="utf-8")
    (project / "jinja.csv").write_text("{{ a }},b\n1,2\n", encoding="utf-8")
    (project / "data.json").write_text("[1]", encoding="utf-8")
    (project / "list.json").write_text('[{"a": 1, "b": [1]}]', encoding="utf-8")
    before = files(project)

    assert 2 == main(["new", *arguments, "--yes"])

    assert message in capsys.readouterr().err
    assert before == files(project)


def staged() -> pl.DataFrame:
    """Return the rows of the staging model of the orders, each on the first day of its week."""
    return orders(2_000).select(
        pl.col("at").dt.truncate("1w").dt.date().alias("day"), "order_id", pl.col("at").alias("at_value"), "customer",
        "amount", "tier", "returned", predicted_at="at", label_known_at=pl.col("at").dt.offset_by("1d"),
    )  # fmt: skip


def test_a_model_of_a_dbt_model_reads_it_without_a_raw_table_or_a_staging_model(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", str(project / ".lake"))
    assert 0 == main([*NEW, "--partition", "week"])
    again = ("new", "again", "--table", "stg_returns", "--target", "returned", "--yes")
    assert 2 == main([*again])
    assert "tables/stg_returns has no rows in the lake" in capsys.readouterr().err
    assert 2 == main([*again[:3], "stg_return", *again[4:]])
    printed_error = capsys.readouterr().err
    assert "--table is 'stg_return', which is neither a file in" in printed_error
    assert "nor a dbt model of the project (did you mean 'stg_returns'?)" in printed_error
    for week, rows in staged().partition_by("day", as_dict=True).items():
        put(Lake(str(project / ".lake")), rows, asset="tables/stg_returns", partition=str(week[0]))

    assert 0 == main([*again])

    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "dbt model stg_returns its rows in the lake, with the types and the key of its contract sure",
        "key order_id --key or the contract of the table says so given",
        "wrote 7 files",
    ):
        assert line in printed, line
    models = project / "dbt_project" / "models" / "again"
    assert {"_again.yml", "again_features.sql", "again_outcomes.sql"} == {it.name for it in models.iterdir()}
    for name, lacks in (("features", "returned"), ("outcomes", "amount")):
        sql = (models / f"again_{name}.sql").read_text(encoding="utf-8")
        assert "from {{ ref('stg_returns') }}" in sql
        assert lacks not in sql
    contracts = read_table_contracts()
    assert "raw/again" not in contracts
    assert pl.Float64 == contracts["again_features"].schema["amount"]

"""`ml-assets new --event`: the evidence, the files, and what is refused."""

from pathlib import Path

import polars as pl
import pytest

from ml_assets.cli.flow.project import read_declarations, read_table_contracts
from ml_assets.cli.init import project_files, write_new
from ml_assets.cli.main import main
from ml_assets.lake.store import Lake
from tests.builders import put
from tests.logic.inspection.tables import visits

NEW = ("new", "again", "--event", "visits.csv", "--horizon", "14d", "--yes")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "gym"
    write_new(folder, project_files("gym", is_bare=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(folder))
    visits().write_csv(folder / "visits.csv")
    return folder


def files(root: Path) -> set[str]:
    unwritten = {"target", "logs", ".dagster"}
    return {str(it.relative_to(root)) for it in root.rglob("*") if it.is_file() and unwritten.isdisjoint(it.parts)}


WRITTEN = {
    "defs/again/defs.yaml", "defs/again_raw/defs.yaml", "defs/again_tables/defs.yaml",
    *(f"dbt_project/models/again/{name}" for name in (
        "_again.yml", "stg_again.sql", "again_population.sql", "again_features.sql", "again_outcomes.sql"
    )),
    "notebooks/again.ipynb", "tests/test_again.py", ".ml-assets/new/again.json",
}  # fmt: skip


def test_a_model_of_events_is_written_with_its_evidence_shown_again_without_a_difference_and_removed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project)

    assert 0 == main([*NEW])
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert WRITTEN == files(project) - before
    for line in (
        "entity member_id 300 values in",
        "time of an event visited_at it has a time in every row",
        "key of an event visit_id each of its",
        "population whoever had an event in the 30 days before the start of each week no --population says likely",
        "features events of 7, 30 days",
        "without a label yet, because their 14 days are not over:",
        "key member_id, predicted_at each is predicted once at a time sure",
    ):
        assert any(it.startswith(line) for it in printed), line
    [model] = read_declarations().models
    assert ("event_within_14d", 14) == (model.labels.target, model.labels.maturity_days)

    assert 0 == main([*NEW])
    assert "every file is there, as it would be written" in capsys.readouterr().out
    assert 0 == main(["new", "again", "--undo"])
    assert before == files(project)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--horizon is missing. Use: ml-assets new again --event FILE --horizon 30d"),
        (["--horizon", "0d"], "--horizon is '0d'; expected a whole number of hours, days or weeks from 1 on"),
        (["--horizon", "400d"], "--horizon is 400 days, but the events last 200 days, 2024-01-01 to 2024-07-18; exp"),
        (["--horizon", "60d"], "the rows cover 170 days, of which 0 are left, because the train, the validation and t"),
        (["--horizon", "7d", "--target", "spent", "--weight", "x"], "--target and --weight cannot be used with --ev"),
        (["--horizon", "7d", "--key", "member"], "--key is 'member'; expected a column of the events (did you mean 'm"),
        (["--horizon", "7d", "--key", "visit_id"], "--key is 'visit_id', which is different in every event; expected"),
        (["--horizon", "7d", "--key", "visited_at"], "--key is 'visited_at', which has values such as"),
        (["--horizon", "7d", "--key", "member_id,channel"], "--key is member_id, channel; expected one column with"),
        (["--horizon", "7d", "--time", "channel"], "--time is 'channel', which has values such as"),
        (["--horizon", "7d", "--event-where", "{{ x }}"], "--event-where is '{{ x }}'; expected SQL over an event"),
        (["--horizon", "7d", "--event-where", "channel = 'fax'"], "none of the"),
        (["--horizon", "7d", "--event-where", "chanel = 'app'"], "--event-where cannot be run: Binder Error"),
        (["--horizon", "7d", "--event", "timeless.csv"], "no column of the events has a time in every row: member_id"),
        (["--horizon", "7d", "--event", "visit.csv"], "--event is 'visit.csv', which does not exist"),
        (["--horizon", "7d", "--population", "select 1 from nothing"], "--population cannot be run: Catalog Error"),
        (["--horizon", "7d", "--population", "select member_id from events"], "--population gives the columns member"),
        (
            ["--horizon", "7d", "--population", "select member_id, null as predicted_at from events"],
            "--population has no predicted_at in",
        ),
        (
            ["--horizon", "7d", "--population", "select 1 as member_id, timestamp '2024-03-04' as predicted_at"],
            "--population gives member_id as Int32; expected String, as the events have it",
        ),
        (["--horizon", "7d", "--population", "from read_csv('visits.csv')"], "file system operations are disabled"),
        (["--horizon", "7 days", "--event", "visit.csv"], "--horizon is '7 days'; expected a whole number of hours"),
        (["--horizon", "7d", "--population", "{# x #}", "--event", "visit.csv"], "--population is '{# x #}'; expected"),
        (["--horizon", "7d", "--event-where", "{% x %}", "--event", "visit.csv"], "--event-where is '{% x %}'; expec"),
        (["--horizon", "7d", "--population", " ; "], "--population is ''; expected a select over 'events' that gives"),
        (["--horizon", "7d", "--population", "from {{ ref('x') }}"], "--population is 'from {{ ref('x') }}'; expected"),
        (
            ["--horizon", "7d", "--population", "select member_id, visited_at as predicted_at from events where false"],
            "--population has no row from 2024-01-01 to 2024-07-18, the days with events; expected a row for each",
        ),
        (
            ["--horizon", "7d", "--population", "select member_id, timestamp '2024-03-04' as predicted_at from events"],
            "rows that share member_id and predicted_at with another, such as M",
        ),
        (
            [
                "--horizon", "7d", "--population",
                "select member_id, max(visited_at) - interval '1 day' as predicted_at from events group by all",
            ],
            "--population depends on events after its prediction time: at 2024-",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    visits(30).drop("visited_at").write_csv(project / "timeless.csv")
    before = files(project)

    assert 2 == main(["new", "again", "--event", "visits.csv", *arguments, "--yes"])

    assert message in capsys.readouterr().err
    assert before == files(project)


def test_a_dbt_model_of_events_is_read_without_a_raw_table_and_by_the_day_of_each_event(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", str(project / ".lake"))
    assert 0 == main([*NEW])
    rows = visits().with_columns(day=pl.col("visited_at").dt.date())
    lake = Lake(str(project / ".lake"))
    for (week,), part in rows.group_by(pl.col("day").dt.truncate("1w")):
        put(lake, part, asset="tables/stg_again", partition=str(week))
    capsys.readouterr()

    assert 0 == main(["new", "more", "--event", "stg_again", "--horizon", "7d", "--yes"])

    assert "wrote 8 files" in capsys.readouterr().out
    features = (project / "dbt_project" / "models" / "more" / "more_features.sql").read_text(encoding="utf-8")
    assert "from {{ ref('stg_again') }}" in features
    contracts = read_table_contracts()
    assert "raw/more" not in contracts
    assert {"events_30d", "spent_sum_30d", "last_channel"} <= {*contracts["more_features"].names}

    for (week,), part in rows.group_by(pl.col("day").dt.truncate("1w")):
        put(lake, part.with_columns(pl.col("day").max()), asset="tables/stg_again", partition=str(week))
    assert 2 == main(["new", "other", "--event", "stg_again", "--horizon", "7d", "--yes"])
    assert "of dbt model 'stg_again' have a day that is not that of visited_at (UTC)" in capsys.readouterr().err

"""What `ml-assets replay` lists, runs and prints, and how it ends; how a step is run again is in tests/provenance."""

import json
import pdb  # noqa: T100 - whether it is opened is tested
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.table import ContractRecord
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.scratch import ScratchLake
from ml_assets.lake.sealing import seal, unseal
from ml_assets.lake.steps import StepRecord, recorded_runs, steps_of
from ml_assets.lake.store import Lake
from tests.builders import files_of, flights_declared
from tests.cli.commands import Command
from tests.cli.test_promotion import kept_model
from tests.lake.materialized import copied, daily, materialize, numbers, shop

MODEL = "flight_delay"
STATE = {"fails": False, "by": 2}


@dg.asset(code_version="1")
def doubled(numbers: pl.DataFrame) -> pl.DataFrame:
    if STATE["fails"]:
        culprit = numbers["n"].min()
        raise ZeroDivisionError(f"{culprit} / 0")
    return numbers.with_columns(pl.col("n") * STATE["by"])


ASSETS = (numbers, doubled, daily, copied)


@pytest.fixture
def lake(home: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake of a small shop, whose code location is what the command builds."""
    monkeypatch.setattr("ml_assets.cli.flow.project.prepare", lambda: None)
    monkeypatch.setattr("ml_assets.orchestration.location.load_definitions", lambda it: shop(it.lake, *ASSETS))
    monkeypatch.setitem(STATE, "fails", False)
    monkeypatch.setitem(STATE, "by", 2)
    return Lake(str(home / "lake"))


def materialized(lake: Lake, *names: str, over: tuple[str, str] | None = None) -> str:
    """Materialize assets of the shop and return the run."""
    return materialize(Path(lake.url), *ASSETS, only=[*names], over=over).run_id


def failed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> str:
    """Materialize with a step that fails, and return the run."""
    with monkeypatch.context() as patched:
        patched.setitem(STATE, "fails", True)
        return materialized(lake, "numbers", "doubled")


def edited(lake: Lake, run: str, step: str, **fields: Any) -> None:
    """Change the record of a step."""
    path = Path(lake.url) / "runs" / run / step / "0.json"
    record = unseal(path.read_bytes(), StepRecord, where=str(path), what="the record of a step")
    path.write_bytes(seal(record.model_copy(update=fields)))


# ---------------------------------------------------------------- what there is


def test_runs_are_listed_oldest_first_with_their_artifacts(lake: Lake, command: Command) -> None:
    assert f"there are no records of runs in {lake.url}\n" == command("replay", code=1).out

    first, second = materialized(lake, "numbers", "doubled"), materialized(lake, "numbers")

    lines = command("replay").out.splitlines()
    assert [(first, "numbers, doubled"), (second, "numbers")] == [
        (line.split()[0], line.split("  ")[2]) for line in lines
    ]


def test_a_damaged_record_is_listed_with_the_other_runs(lake: Lake, command: Command) -> None:
    good, bad = materialized(lake, "numbers"), materialized(lake, "numbers")
    edited(lake, bad, "numbers", retry_number=-1)

    text = command("replay").out

    assert f"{bad}  {lake.url}/runs/{bad}/numbers/0.json is not the record of a step (retry_number: " in text
    assert f"\n{good}  20" in text
    assert (
        f"ml-assets: {lake.url}/runs/{bad}/numbers/0.json is not the record of a step"
        in command("replay", bad, "numbers", code=2).err
    )


def test_the_steps_of_a_run_are_listed_with_their_results(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    run = failed(lake, monkeypatch)
    days = materialized(lake, "daily", over=("2013-01-02", "2013-01-04"))

    assert ["attempt 0  numbers: stored 1 artifact", "attempt 0  doubled: did not finish"] == [
        line.split("  ", 1)[1] for line in command("replay", run[:8]).out.splitlines()
    ]
    assert "daily 2013-01-02 to 2013-01-04: stored 3 artifacts\n" in command("replay", days).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no runs with records in {lake} start with 'nowhere'; see `ml-assets replay`"),
        (["{run}", "tripled"], "no step of run {run} makes 'tripled'; its steps make: numbers"),
        (["{run}", "numbers", "--partition", "2013-01-01"], "covers no partition, not '2013-01-01'"),
        (["{run}", "numbers", "--keep", "{lake}"], "--keep {lake} is not empty; name a new folder"),
    ],
)
def test_a_step_that_cannot_be_replayed_ends_with_2(
    lake: Lake, command: Command, arguments: list[str], message: str
) -> None:
    run = materialized(lake, "numbers")

    assert (
        message.format(run=run, lake=lake.url)
        in command("replay", *(it.format(run=run, lake=lake.url) for it in arguments), code=2).err
    )


# ---------------------------------------------------------------- what came out


def test_an_equal_step_ends_with_0_and_leaves_the_lake_as_it_was(lake: Lake, command: Command) -> None:
    run = materialized(lake, "numbers", "doubled")
    before = files_of(lake)

    text = command("replay", run[:8], "doubled").out
    answer = command.json("replay", run, "doubled")

    version = lake.find("doubled").version
    assert f"doubled, run {run}, attempt 0\n  inputs   1 loaded before it began, " in text
    assert f"  equal    doubled {version[:12]}: 1 of 1\n" in text
    assert (True, None, None, []) == tuple(answer[name] for name in ("is_equal", "error", "scratch", "changed"))
    assert [str(lake.find("numbers"))] == answer["inputs"]
    assert [("doubled", None, version, version, True)] == [
        tuple(one[name] for name in ("asset", "partition", "original", "replayed", "is_equal"))
        for one in answer["outputs"]
    ]
    assert before == files_of(lake)


def test_a_step_with_another_output_ends_with_1_and_names_the_differences(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    run = materialized(lake, "numbers", "doubled")
    monkeypatch.setitem(STATE, "by", 3)

    text = command("replay", run, "doubled", code=1).out

    assert "  differs  doubled " in text
    assert "data.parquet: of 3 rows, n in 3" in text


def test_a_failed_step_fails_again_until_its_code_is_fixed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    run = failed(lake, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setitem(STATE, "fails", True)
        assert "  failed   ZeroDivisionError: 1 / 0\n" in command("replay", run, "doubled", code=1).out
        assert "ZeroDivisionError: 1 / 0" == command.json("replay", run, "doubled", code=1)["error"]

    text = command("replay", run, "doubled", "--code", "current", code=1).out

    assert "  new      doubled " in text
    assert ": the original step did not materialize it\n" in text


def test_a_scratch_lake_is_kept_in_the_requested_folder(lake: Lake, tmp_path: Path, command: Command) -> None:
    run = materialized(lake, "numbers", "doubled")

    answer = command.json("replay", run, "doubled", "--keep", str(tmp_path / "kept"))

    kept = Lake(str(tmp_path / "kept"))
    assert str(tmp_path / "kept") == answer["scratch"]
    assert lake.find("doubled") == kept.find("doubled")
    assert lake.find("numbers") == kept.find("numbers")


# ---------------------------------------------------------------- debuggers


def test_pdb_is_opened_where_the_step_failed(lake: Lake, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, Any]] = []

    def look(trace: TracebackType) -> None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        opened.append((trace.tb_frame.f_code.co_name, trace.tb_frame.f_locals.get("culprit")))

    monkeypatch.setattr(pdb, "post_mortem", look)
    run = failed(lake, monkeypatch)
    monkeypatch.setitem(STATE, "fails", True)

    command("replay", run, "doubled", code=1)
    assert [] == opened
    command("replay", run, "doubled", "--pdb", code=1)
    assert [("doubled", 1)] == opened


def test_leaving_the_debugger_ends_the_replay_without_a_trace(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    def leave() -> None:
        raise pdb.bdb.BdbQuit

    @dg.asset(name="doubled", code_version="1")
    def stops(numbers: pl.DataFrame) -> pl.DataFrame:
        breakpoint()  # noqa: T100 - what is tested
        return numbers

    run = materialized(lake, "numbers", "doubled")
    monkeypatch.setattr("ml_assets.orchestration.location.load_definitions", lambda it: shop(it.lake, numbers, stops))
    monkeypatch.setattr(sys, "breakpointhook", leave)
    monkeypatch.setattr(pdb, "post_mortem", lambda _: pytest.fail("it was left already"))

    printed = command("replay", run, "doubled", "--pdb", code=1)
    assert "failed   BdbQuit" in printed.out
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("ide", ["vscode", "pycharm"])
def test_a_launch_configuration_is_written_instead_of_a_replay(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, ide: str
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(tmp_path))
    run = materialized(lake, "daily", over=("2013-01-02", "2013-01-04"))

    text = command("replay", run[:8], "daily", "--partition", "2013-01-03", "--ide", ide).out

    path = Path(text.split(": ")[0])
    assert f"'replay daily of run {run[:8]}'; set a breakpoint and start it\n" in text
    wanted = ["replay", run, "daily", "--code", "current", "--lake", lake.url, "--partition", "2013-01-03"]
    if ide == "vscode":
        assert wanted == json.loads(path.read_text())["configurations"][0]["args"]
    else:
        assert f'value="{" ".join(wanted)}"' in path.read_text()


# ---------------------------------------------------------------- the code of then


def test_changed_code_is_replayed_with_the_original_code(
    lake: Lake, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str | None, list[str], dict[str, Any]]] = []

    def run_at(commit: str | None, words: list[str], **options: Any) -> int:
        started.append((commit, words, options))
        return 0

    monkeypatch.setattr("ml_assets.provenance.original_code.run_original_code", run_at)
    monkeypatch.chdir(tmp_path)
    run = materialized(lake, "numbers", "doubled")
    edited(lake, run, "doubled", code_versions={"doubled": "0"}, git_commit="c" * 40, git_is_dirty=True)

    command("replay", run[:8], "doubled", "--json", "--keep", "kept", "--lake", lake.url)

    [(commit, words, options)] = started
    wanted = ["replay", run, "doubled", "--code", "current", "--json", "--keep", str(tmp_path / "kept")]
    assert ("c" * 40, wanted) == (commit, words)
    assert (lake.url, True) == (options["lake"], options["was_dirty"])


def test_changed_code_is_named_if_the_current_code_is_used(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(
        "ml_assets.provenance.original_code.run_original_code",
        lambda *_, **__: pytest.fail("the current code was requested"),
    )
    run = materialized(lake, "numbers", "doubled")
    edited(lake, run, "doubled", code_versions={"doubled": "0"}, git_commit="c" * 40, environment="0" * 32)

    changed = command.json("replay", run, "doubled", "--code", "current")["changed"]
    assert "the code of doubled was 0, is 1" == changed[0]
    assert "the original environment (00000000000000000000000000000000) is not in the lake" in changed[1]

    edited(lake, run, "doubled", git_commit=None)
    printed = command("replay", run, "doubled").err
    assert "the code of doubled was 0, is 1" in printed
    assert "no commit was recorded; using the current code" in printed


# ---------------------------------------------------------------- nothing replayed is promoted


def test_a_version_in_a_scratch_lake_cannot_be_promoted(home: Path, command: Command) -> None:
    lake = Lake(str(home / "lake"))
    contract = ContractRecord(name="", columns=())
    kept_model(lake, "another", contract)
    at = lake.manifest(lake.find(f"{MODEL}/model")).created_at
    version = kept_model(ScratchLake(home / "scratch", lake, at=at), "replayed", contract)

    assert (
        f"{MODEL}/model@{version[:12]} has no manifest"
        in command("promote", MODEL, version, "--why", "it was replayed", "--by", "sam", code=1).err
    )
    command("promote", MODEL, version[:8], "--why", "it was replayed", "--by", "sam", code=2)
    assert [] == PromotionLog(lake, MODEL).entries()


def test_a_promotion_replayed_by_the_command_is_not_written_to_the_log(
    own_flown: Path, manifest: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    assert manifest
    for module in ("assembly", "cli.flow.project"):
        monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _: flights_declared())
    lake = Lake(str(own_flown))
    before = files_of(lake)
    run = next(
        run
        for run in recorded_runs(lake)
        if f"{MODEL}/champion" in {a for it in steps_of(lake, run) for a in it.assets}
    )

    wanted = [f"{MODEL}/champion", "--code", "current", "--lake", str(own_flown), "--keep", str(tmp_path / "kept")]
    text = command("replay", run, *wanted).out

    assert f"  equal    {MODEL}/champion " in text
    assert before == files_of(lake)
    assert 1 == len(PromotionLog(Lake(str(tmp_path / "kept")), MODEL).entries())

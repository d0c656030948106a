import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.cli.main import COMMANDS, main, parser
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from tests.builders import flights_declared, promotion

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give the command a home and a lake of its own, and take back what it sets for its process."""
    for name in ("OMP_WAIT_POLICY", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return iter([None])


def names() -> list[str]:
    return [module.__name__.rsplit(".", 1)[1] for module in COMMANDS]


def test_every_command_has_its_help_written_down() -> None:
    assert sorted(["ml-assets", *names()]) == sorted(path.stem for path in GOLDEN.glob("*.txt"))


@pytest.mark.parametrize("command", ["ml-assets", *names()])
def test_help_equals_the_golden_file(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"] if command == "ml-assets" else [command, "--help"])

    assert 0 == ended.value.code
    assert (GOLDEN / f"{command}.txt").read_text(encoding="utf-8") == capsys.readouterr().out


def test_every_command_names_a_function() -> None:
    needed = {name: ["flight_delay"] for name in ("champion", "explain", "leaktest", "reproduce", "trace")}
    needed |= {
        "init": ["shop"],
        "promote": ["flight_delay", "6932", "--why", "so"],
        "rollback": ["flight_delay", "--why", "so"],
    }
    needed |= {"simulate": ["flight_delay", "--from", "2013-03-01", "--to", "2013-12-31"]}
    for name in names():
        assert callable(parser().parse_args([name, *needed.get(name, [])]).function)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["trian"],
        ["champion"],
        ["run", "flight_delay", "--as"],
        ["ui", "--port", "many"],
        ["promote", "flight_delay", "6932"],
        ["rollback", "--why", "so"],
        ["replay", "1a", "a", "--code", "newer"],
    ],
)
def test_wrong_usage_ends_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    assert "usage: ml-assets" in capsys.readouterr().err


def test_the_installed_release_is_printed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert (0, f"ml-assets {importlib.metadata.version('ml-assets')}\n") == (ended.value.code, capsys.readouterr().out)


def test_an_unknown_model_ends_with_2_and_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["champion", "flight_dely"])

    said = capsys.readouterr()
    assert "" == said.out
    assert said.err.startswith("ml-assets: there is no model 'flight_dely'; expected one of flight_delay")
    assert "did you mean 'flight_delay'?" in said.err
    assert "Traceback" not in said.err


def test_an_invalid_day_ends_with_2(manifest: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert manifest
    assert 2 == main(["run", "flight_delay", "--as-of", "2013-02-30"])

    assert "ml-assets: --as-of is '2013-02-30'; expected a day such as 2013-12-31" in capsys.readouterr().err


def test_without_a_champion_it_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == main(["champion", "flight_delay"])

    assert "flight_delay: there is no champion; run the model first\n" == capsys.readouterr().out


def test_the_champion_is_shown_with_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = PromotionLog(Lake(str(tmp_path / "lake")), "flight_delay")
    entries = [log.append(promotion(n, champion=version * 32), number=n) for n, version in ((1, "a"), (2, "b"))]

    assert 0 == main(["champion", "flight_delay"])
    text = capsys.readouterr().out
    assert 0 == main(["champion", "flight_delay", "--json"])
    values = json.loads(capsys.readouterr().out)["entries"]

    assert text.splitlines()[-2].startswith(f"flight_delay: {'b' * 32} is the champion, since ")
    assert 2 == text.count("it is better")
    assert [entry.model_dump(mode="json") for entry in entries] == values


def test_a_damaged_log_ends_with_2_and_names_the_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = tmp_path / "lake" / "promotions" / "flight_delay" / "000001.json"
    entry.parent.mkdir(parents=True)
    entry.write_text("{}")

    assert 2 == main(["champion", "flight_delay"])

    assert f"{entry} is not an entry of the promotion log" in capsys.readouterr().err


def test_a_step_that_fails_ends_the_run_with_3_and_is_named(
    manifest: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manifest
    monkeypatch.setenv("ML_ASSETS_LAKE", "/proc/lake")
    for module in ("assembly", "cli.flow.project"):
        monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _: flights_declared())

    assert 3 == main(["run", "flight_delay"])

    said = capsys.readouterr()
    assert "" == said.out
    assert "raw/airlines failed: cannot write /proc/lake/" in said.err
    assert re.search(r"to debug it: ml-assets replay [0-9a-f]{8} raw/airlines --pdb", said.err)
    assert "stopped; finished artifacts are stored, and the next run continues from there" in said.err


def test_a_defect_is_shown_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ml_assets.cli.flow.project.read_all", broken)

    with pytest.raises(ZeroDivisionError):
        main(["champion", "flight_delay"])

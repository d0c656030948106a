import importlib.metadata
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ml_assets.cli.console.examples import EXAMPLES
from ml_assets.cli.main import COMMANDS, main, parser
from tests.builders import flights_declared
from tests.cli.commands import Command

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def plain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all terminals give the same help."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


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


@pytest.mark.parametrize("example", [it for examples in EXAMPLES.values() for it in examples])
def test_each_example_of_the_help_is_a_command_that_parses(example: str) -> None:
    command, *_ = shlex.split(example.partition(" > ")[0])

    assert command == parser().parse_args(shlex.split(example.partition(" > ")[0])).command
    assert example in EXAMPLES[command]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["completion", shell])

    script = capsys.readouterr().out
    assert [] == [name for name in names() if name not in script]


def test_bash_completes_the_options_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    asked = "COMP_WORDS=(ml-assets rollback --w); COMP_CWORD=2; _shtab_ml_assets ml-assets --w rollback"
    script = tmp_path / "script"
    script.write_text(f'{capsys.readouterr().out}\n{asked}\necho "${{COMPREPLY[@]}}"\n', encoding="utf-8")

    found = subprocess.run(["/bin/bash", str(script)], capture_output=True, text=True, check=True)

    assert ["--why"] == found.stdout.split()


@pytest.mark.parametrize(
    "arguments",
    ["", "trian", "champion", "run flight_delay --as", "ui --port many", "promote flight_delay 6932",
     "rollback --why so", "replay 1a a --code newer"],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_the_usage(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())

    assert 2 == ended.value.code
    assert "usage: ml-assets" in capsys.readouterr().err


def test_the_installed_release_is_printed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert (0, f"ml-assets {importlib.metadata.version('ml-assets')}\n") == (ended.value.code, capsys.readouterr().out)


def test_with_json_an_error_is_json_too(command: Command) -> None:
    found = command.json("champion", "flight_dely", code=2)

    assert 2 == found["code"]
    assert "did you mean 'flight_delay'?" in found["error"]


@pytest.mark.usefixtures("manifest")
def test_a_lake_that_cannot_be_written_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "file" / "lake"))

    printed = command("run", "flight_delay", "--as-of", "2013-02-10", code=2)

    assert f"Check that the lake {tmp_path}/file/lake exists and is writable" in printed.err
    assert "raw/" not in printed.err


def test_an_unknown_model_ends_with_2_and_a_suggestion(command: Command) -> None:
    printed = command("champion", "flight_dely", code=2)
    assert "" == printed.out
    assert printed.err.startswith("ml-assets: there is no model 'flight_dely'; expected one of flight_delay")
    assert "did you mean 'flight_delay'?" in printed.err
    assert "Traceback" not in printed.err


def test_an_invalid_day_ends_with_2(manifest: object, command: Command) -> None:
    assert manifest
    assert (
        "ml-assets: --as-of is '2013-02-30'; expected a day such as 2013-12-31"
        in command("run", "flight_delay", "--as-of", "2013-02-30", code=2).err
    )


def test_without_a_champion_it_ends_with_1(command: Command) -> None:
    assert (
        f"flight_delay: there is no champion in {os.environ['ML_ASSETS_LAKE']}; run the model first\n"
        == command("champion", "flight_delay", code=1).out
    )


def test_a_step_that_fails_ends_the_run_with_3_and_is_named(
    manifest: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    assert manifest
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "artifacts").touch()  # is no folder, so nothing can be written in it
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    for module in ("assembly", "cli.flow.project"):
        monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _: flights_declared())

    printed = command("run", "flight_delay", code=3)
    assert "" == printed.out
    assert f"raw/airlines failed: cannot write {tmp_path}/lake/artifacts/" in printed.err
    assert re.search(r"to debug it: ml-assets replay [0-9a-f]{8} raw/airlines --pdb", printed.err)
    assert "stopped; finished artifacts are stored, and the next run continues from there" in printed.err


def test_a_defect_is_shown_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ml_assets.cli.flow.project.read_all", broken)

    with pytest.raises(ZeroDivisionError):
        main(["champion", "flight_delay"])

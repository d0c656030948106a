"""Launch configurations: what is written, what stays, and what must not get into them."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ml_assets.cli.ide import pycharm, vscode
from ml_assets.contracts.errors import DataError

COMMAND = ["replay", "run 1", "raw/a", "--lake", "s3://bucket/lake"]
SECRETS = {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_ACCESS_KEY_ID": "s3cr3t-id", "AWS_SESSION_TOKEN": "s3cr3t-token"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ML_ASSETS_LAKE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def written(root: Path, *configurations: object) -> Path:
    """Write a launch.json as a person has it."""
    path = root / ".vscode" / "launch.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"version": "0.2.0", "inputs": [1], "configurations": [*configurations]}))
    return path


def options(path: Path) -> dict[str, str]:
    """Return what a run configuration of PyCharm sets."""
    tree = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own file
    return {it.attrib["name"]: it.attrib["value"] for it in tree.iter("option")}


def test_vs_code_starts_the_command_as_a_module_from_the_project(tmp_path: Path) -> None:
    path = vscode(tmp_path, "replay raw/a", COMMAND)

    [configuration] = json.loads(path.read_text())["configurations"]
    assert tmp_path / ".vscode" / "launch.json" == path
    assert ("debugpy", "launch", "ml_assets.cli.main", COMMAND, "${workspaceFolder}", False) == tuple(
        configuration[name] for name in ("type", "request", "module", "args", "cwd", "justMyCode")
    )


def test_other_configurations_are_unchanged_and_one_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    mine = {"name": "mine", "type": "node"}
    path = written(tmp_path, mine, {"name": "replay", "args": ["old"]})

    vscode(tmp_path, "replay", COMMAND)
    vscode(tmp_path, "replay", COMMAND)

    launch = json.loads(path.read_text())
    assert ("0.2.0", [1]) == (launch["version"], launch["inputs"])
    assert [("mine", None), ("replay", COMMAND)] == [(one["name"], one.get("args")) for one in launch["configurations"]]
    assert mine == launch["configurations"][0]


@pytest.mark.parametrize(
    "text", ['{\n  // mine\n  "configurations": []\n}', "[]", '{"configurations": 3}', "null", "[1"]
)
def test_a_file_that_cannot_be_added_to_is_left_alone_and_the_text_to_paste_is_given(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    path.write_text(text)

    with pytest.raises(DataError, match=r"launch\.json cannot be parsed .*it was not changed") as caught:
        vscode(tmp_path, "replay", COMMAND)

    assert text == path.read_text()
    assert COMMAND == json.loads(str(caught.value).split("configurations:\n", 1)[1])["args"]


def test_pycharm_gets_one_file_a_configuration_that_it_can_read(tmp_path: Path) -> None:
    path = pycharm(tmp_path, "replay raw/a of run <1>", COMMAND)

    assert tmp_path / ".run" / "replay raw a of run <1>.run.xml" == path
    assert {
        "MODULE_MODE": "true", "SCRIPT_NAME": "ml_assets.cli.main", "WORKING_DIRECTORY": "$PROJECT_DIR$",
        "PARAMETERS": "replay 'run 1' raw/a --lake s3://bucket/lake", "EMULATE_TERMINAL": "true",
    } == options(path)  # fmt: skip
    assert path == pycharm(tmp_path, "replay raw/a of run <1>", ["replay"])
    assert "replay" == options(path)["PARAMETERS"]


def test_neither_file_has_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", "s3://bucket/lake")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:s3cr3t@localhost:9000")

    for path in (vscode(tmp_path, "replay", COMMAND), pycharm(tmp_path, "replay", COMMAND)):
        text = path.read_text()
        assert "s3cr3t" not in text
        assert "eu-west-1" in text
        assert "s3://bucket/lake" in text

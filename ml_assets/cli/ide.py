"""Launch configurations for running a command of this project in an IDE's debugger."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from ml_assets.contracts.errors import DataError

_MODULE = "ml_assets.cli.main"
_PASSED_ON = ("ML_ASSETS_LAKE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_PROFILE")
"""Settings without secrets. Credentials must come from the IDE's own environment."""


def _environment() -> dict[str, str]:
    given = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {name: value for name, value in given.items() if "@" not in urlsplit(value).netloc}  # user:key@host


def vscode(root: Path, name: str, command: Sequence[str]) -> Path:
    """Add a configuration to `.vscode/launch.json`, replacing one of the same name.

    Raises:
        DataError: the file exists and is not plain JSON. Nothing is written.
    """
    path = root / ".vscode" / "launch.json"
    configuration = {
        "name": name,
        "type": "debugpy",
        "request": "launch",
        "module": _MODULE,
        "args": list(command),
        "cwd": "${workspaceFolder}",
        "env": _environment(),
        "console": "integratedTerminal",
        "justMyCode": False,
    }
    launch: dict[str, Any] = {"version": "0.2.0", "configurations": []}
    if path.exists():
        try:
            launch = json.loads(path.read_text(encoding="utf-8"))
            others = [one for one in launch.get("configurations", []) if one.get("name") != name]
        except (ValueError, AttributeError, TypeError) as error:
            text = json.dumps(configuration, indent=2)
            raise DataError(
                f"{path} cannot be parsed ({error}), perhaps because it contains comments; it was not changed. Add "
                f"this to its configurations:\n{text}"
            ) from error
        launch["configurations"] = others
    launch["configurations"].append(configuration)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(launch, indent=2) + "\n", encoding="utf-8")
    return path


def pycharm(root: Path, name: str, command: Sequence[str]) -> Path:
    """Write a run configuration to `.run/`, where PyCharm finds it."""
    component = ET.Element("component", name="ProjectRunConfigurationManager")
    configuration = ET.SubElement(
        component, "configuration", default="false", name=name, type="PythonConfigurationType", factoryName="Python"
    )
    options = {
        "MODULE_MODE": "true",
        "SCRIPT_NAME": _MODULE,
        "PARAMETERS": shlex.join(command),
        "WORKING_DIRECTORY": "$PROJECT_DIR$",
        "EMULATE_TERMINAL": "true",
    }
    for option, value in options.items():
        ET.SubElement(configuration, "option", name=option, value=value)
    variables = ET.SubElement(configuration, "envs")
    for variable, value in {"PYTHONUNBUFFERED": "1", **_environment()}.items():
        ET.SubElement(variables, "env", name=variable, value=value)
    ET.SubElement(configuration, "method", v="2")
    path = root / ".run" / f"{name.replace('/', ' ')}.run.xml"
    path.parent.mkdir(exist_ok=True)
    ET.indent(component)
    path.write_text(ET.tostring(component, encoding="unicode") + "\n", encoding="utf-8")
    return path

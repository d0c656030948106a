"""Runs dbt's unit tests from a project's own tests, without a lake.

Not here: dbt's data tests, which are asset checks of a build (see `ml_assets.warehouse.warehouse`).
"""

import json
from pathlib import Path
from typing import Final

from ml_assets.lake.errors import WarehouseError
from ml_assets.machine.temporary import temporary_folder
from ml_assets.warehouse.dbt_server import RESULTS, Dbt

_PASSED: Final = frozenset({"pass", "success"})


def failed_unit_tests(dbt_project: Path) -> list[str]:
    """Run the unit tests of a dbt project, and return a message for each failure.

    Args:
        dbt_project: the folder of the dbt project, prepared by `ml-assets parse`.

    Raises:
        WarehouseError: dbt cannot run the tests.
    """
    with temporary_folder("unit-tests") as folder, Dbt(dbt_project) as dbt:
        bindings = folder / "bindings.json"
        bindings.write_text(json.dumps({"scratch": str(folder), "sources": {}, "models": {}}), encoding="utf-8")
        lines: list[str] = []
        command = ("test", "--select", "test_type:unit")
        code = dbt.build(command, bindings=bindings, target=folder, log=lines.append)
        results = folder / RESULTS
        ran = json.loads(results.read_text(encoding="utf-8"))["results"] if results.exists() else []
    failed = [
        f"{it['unique_id'].rpartition('.')[2]}: {it['message']}"
        for it in ran
        if it["unique_id"].startswith("unit_test.") and it["status"] not in _PASSED
    ]
    if code and not failed:
        raise WarehouseError(f"dbt cannot run the unit tests of {dbt_project}:\n" + "\n".join(lines[-20:]))
    return failed

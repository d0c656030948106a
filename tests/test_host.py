"""Results do not depend on the machine: time zone, locale, threads, hash seed, working directory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.orders_of_a_shop import DAYS, prepare

ROOT = Path(__file__).parent.parent
HOSTS: Mapping[int, Mapping[str, str]] = {  # by the number of threads; one is west of Greenwich, one east
    1: {
        "TZ": "America/New_York",
        "LC_ALL": "POSIX",
        "PYTHONHASHSEED": "1",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    },
    4: {"TZ": "Asia/Kolkata", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
}
STAGES = {
    "raw/orders", "tables/order_features", "tables/order_outcomes",
    *(f"returns/{name}" for name in (
        "features", "labels", "training_set", "importances", "tuning", "model", "predictions", "drift", "performance",
    )),
}  # fmt: skip
MEASURES_TIME = {"returns/evaluation", "returns/champion", "returns/card"}
"""How long a prediction takes, and when a champion was promoted, are facts of a run."""


def test_every_artifact_is_the_same_on_every_machine(tmp_path: Path) -> None:
    prepare(tmp_path)
    running = {}
    for threads, settings in HOSTS.items():
        folder = tmp_path / f"at-{threads}"
        folder.mkdir()
        number = str(threads)
        environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": number,
                       "OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number}  # fmt: skip
        running[threads] = subprocess.Popen(
            [sys.executable, "-m", "tests.orders_of_a_shop", str(tmp_path), number],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    found = {}
    for threads, process in running.items():
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        found[threads] = {
            name: it for name, it in json.loads(out.splitlines()[-1]).items() if name not in MEASURES_TIME
        }

    assert found[1] == found[4]
    assert STAGES <= {*found[1]}
    assert DAYS == len(found[1]["raw/orders"])

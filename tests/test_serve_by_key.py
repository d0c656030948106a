"""The commands of docs/serve.md for requests by key, from a new project to the answer."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from tests.http_server import free_port

ROOT = Path(__file__).parent.parent


@pytest.mark.long  # it trains the example of a new project
def test_the_commands_of_the_page_lead_from_a_new_project_to_a_score_by_key(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    section = page.partition("## Send only the key")[2].partition("\n## ")[0]
    make, curl, *_ = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    [shown] = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    *commands, serve = make.strip().splitlines()
    port, project = str(free_port()), tmp_path / "shop"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ML_ASSETS_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}

    subprocess.run("\n".join(["set -e", *commands]), shell=True, cwd=tmp_path, env=environment, check=True)  # noqa: S602 - our own page
    with subprocess.Popen([*serve.split(), "--port", port], cwd=project, env=environment) as process:
        try:
            wait_until_live(port)
            done = subprocess.run(  # noqa: S602 - our own page
                curl.replace("8080", port), shell=True, env=environment, check=True, capture_output=True
            )
        finally:
            process.terminate()

    answer, expected = json.loads(done.stdout), json.loads(shown)
    [row], [its] = answer["predictions"], expected["predictions"]
    assert ({*expected}, {*its}) == ({*answer}, {*row})
    assert its["prediction_time"] == row["prediction_time"]
    [file] = (project / ".lake" / "requests" / "rental_demand").glob("*/*.parquet")
    [logged] = pl.read_parquet(file).to_dicts()
    assert ({"hour_id": "2011-08-26T17"}, row["score"], []) == (logged["key"], logged["score"], logged["overridden"])
    batch = pl.scan_parquet(project / ".lake/artifacts/rental_demand/predictions/2011-08-26/*/data.parquet")
    assert [row["score"]] == batch.filter(pl.col("hour_id") == "2011-08-26T17").collect()["score"].to_list()


def wait_until_live(port: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=10).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the service does not answer")

"""The warehouse: one dbt invocation over a range of days, from files of the lake to files of the lake.

dbt builds and tests in a scratch folder; what passed is published to the lake afterwards. What the tables mean stays
out: that is dbt's project.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from resources.content import StoredFrame
from resources.errors import WarehouseError
from resources.lake import Lake, LakeResource, Making
from resources.manifest import ArtifactRef, Manifest

PREFIX = "tables"
Node = Mapping[str, Any]


@dataclass(frozen=True)
class TestResult:
    """What a dbt test found."""

    unique_id: str
    passed: bool
    is_blocking: bool
    failures: int
    message: str


@dataclass(frozen=True)
class Build:
    """What one dbt invocation left behind."""

    seconds: Mapping[str, float]
    tests: Sequence[TestResult]
    failed: Mapping[str, str]
    scratch: Path
    models: Sequence[str]
    bound: Mapping[str, Mapping[str, ArtifactRef]] = field(default_factory=dict)


def table_name(node: Node) -> str:
    """Return the lake's name for a dbt source or model."""
    return f"{node['source_name']}/{node['name']}" if node["resource_type"] == "source" else f"{PREFIX}/{node['name']}"


def meta_of(node: Node) -> dict[str, Any]:
    """Return a dbt node's meta, wherever this dbt version keeps it."""
    return {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}


def is_by_day(node: Node) -> bool:
    """Tell whether a table has one file a day."""
    if node["resource_type"] == "model":
        return bool(node["config"]["materialized"] == "by_day")
    return meta_of(node).get("partitioned") == "day"


def look_back_days(node: Node, parent: Node) -> int:
    """Return how many days before its own a model reads of a parent."""
    declared = meta_of(node).get("look_back_days") or {}
    return int(declared.get(parent["name"], 0))


class Warehouse(dg.ConfigurableResource):
    """dbt on DuckDB, in memory, over the lake's files."""

    lake: LakeResource
    project_dir: str
    target: str | None = None
    threads: int = 2

    @contextmanager
    def build(
        self,
        manifest: Mapping[str, Any],
        models: Sequence[str],
        days: tuple[date, date] | None,
        *,
        run_id: str,
        say: Callable[[str], None],
    ) -> Iterator[Build]:
        """Build models (dbt's unique ids) for a range of days, and test them, in a scratch folder.

        Raises:
            WarehouseError: dbt itself failed; failed models and tests are in the result instead.
        """
        lake = self.lake.open()
        nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        bound = _bind(lake, nodes, models, days, run_id)
        with tempfile.TemporaryDirectory(prefix="dbt-") as name:
            folder = Path(name)
            scratch = folder / "out"
            scratch.mkdir()
            bindings = _bindings(lake, nodes, bound, days, scratch)
            (folder / "bindings.json").write_text(json.dumps(bindings), encoding="utf-8")
            self._run(folder, [nodes[m]["name"] for m in models], say)
            yield _result(nodes, models, folder, scratch, bound)

    def _run(self, folder: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
        project = Path(self.project_dir)
        target = folder / "target"
        target.mkdir()
        parsed = project / "target" / "partial_parse.msgpack"
        if parsed.exists():
            shutil.copy(parsed, target)
        command = [
            sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "build", "--select", *names,
            "--exclude-resource-type", "unit_test", "--indirect-selection", "buildable",
            "--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(target),
            "--log-path", str(folder / "logs"), "--threads", str(self.threads),
            *(["--target", self.target] if self.target else []),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "ML_ASSETS_DBT_BINDINGS": str(folder / "bindings.json"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        lines = []
        with subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace",
        ) as process:  # fmt: skip
            try:
                for line in process.stdout or ():
                    lines.append(line.rstrip())
                    say(line.rstrip())
            except BaseException:
                process.terminate()  # an interrupted run leaves no dbt behind
                process.wait()
                raise
        code = process.returncode
        if not (target / "run_results.json").exists():
            tail = "\n".join(lines[-20:])
            raise WarehouseError(f"dbt ended with exit code {code} before it ran anything; it said:\n{tail}")

    def publish(
        self,
        build: Build,
        manifest: Mapping[str, Any],
        model: str,
        days: tuple[date, date] | None,
        *,
        run_id: str,
        code_version: str | None,
        published: dict[str, dict[str, ArtifactRef]],
    ) -> dict[str, Manifest]:
        """Publish one built model from scratch to the lake, with the versions of what it was built from.

        Args:
            build: what dbt left behind.
            manifest: dbt's manifest.
            model: unique id of the model.
            days: the range that was built; None for whole tables.
            run_id: the run that did it.
            code_version: dbt's checksum of the model.
            published: what this run published before, by unique id and day; this model is added.
        """
        lake = self.lake.open()
        nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        node = nodes[model]
        asset = table_name(node)
        stood = {
            parent: {**build.bound.get(parent, {}), **published.get(parent, {})}
            for parent in node["depends_on"]["nodes"]
            if parent in nodes
        }

        def making(day: date | None) -> Making:
            inputs = tuple(
                ref
                for parent, refs in stood.items()
                for ref in _used(refs, day, look_back_days(node, nodes[parent]), is_by_day=is_by_day(nodes[parent]))
            )
            return Making(
                inputs=inputs, code_version=code_version, run_id=run_id, seconds=build.seconds.get(model),
                parameters={"dbt": model},
            )  # fmt: skip

        if days is None:
            whole = StoredFrame.read(build.scratch / f"{node['name']}.parquet")
            made = {"": lake.put(asset, None, whole, making(None))}
        else:
            folder = build.scratch / node["name"]
            made = lake.put_each(
                asset,
                {str(day): (StoredFrame.read(folder / f"{day}.parquet"), making(day)) for day in _range(*days)},
            )
        published[model] = {key: m.ref for key, m in made.items()}
        return made


def _range(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _used(refs: Mapping[str, ArtifactRef], day: date | None, look_back: int, *, is_by_day: bool) -> list[ArtifactRef]:
    if not is_by_day:
        return [*refs.values()]
    if day is None:
        return [*refs.values()]
    return [refs[str(d)] for d in _range(day - timedelta(days=look_back), day) if str(d) in refs]


def _bind(
    lake: Lake, nodes: Mapping[str, Node], models: Sequence[str], days: tuple[date, date] | None, run_id: str
) -> dict[str, dict[str, ArtifactRef]]:
    """Return the artifacts of the lake that these models read, by unique id and day."""
    reach: dict[str, tuple[date, date] | None] = {}
    for model in models:
        for parent in nodes[model]["depends_on"]["nodes"]:
            if parent not in nodes:
                continue
            if not is_by_day(nodes[parent]):
                reach[parent] = None
                continue
            if days is None:
                raise WarehouseError(f"{model} is a whole table, but reads {parent}, which is kept by day.")
            first = days[0] - timedelta(days=look_back_days(nodes[model], nodes[parent]))
            known = reach.get(parent)
            reach[parent] = (min(first, known[0]) if known else first, days[1])
    bound = {}
    for parent, span in reach.items():
        built_here = parent in models
        if span is None:
            keys = [] if built_here else [""]
        else:
            last = days[0] - timedelta(days=1) if built_here and days else span[1]
            keys = [str(day) for day in _range(span[0], last)]
        refs = lake.newest(table_name(nodes[parent]), keys, run_id=run_id) if keys else {}
        bound[parent] = refs
    return bound


def _bindings(
    lake: Lake,
    nodes: Mapping[str, Node],
    bound: Mapping[str, Mapping[str, ArtifactRef]],
    days: tuple[date, date] | None,
    scratch: Path,
) -> dict[str, Any]:
    files = {
        parent: {key: f"{lake.directory(ref)}/data.parquet" for key, ref in refs.items()}
        for parent, refs in bound.items()
    }
    return {
        "first_day": str(days[0]) if days else None,
        "last_day": str(days[1]) if days else None,
        "scratch": str(scratch),
        "filesystem": {"protocol": lake.protocol, "options": lake.options},
        "sources": {
            f"{nodes[p]['source_name']}.{nodes[p]['name']}": f for p, f in files.items() if p.startswith("source.")
        },
        "models": {nodes[p]["name"]: f for p, f in files.items() if p.startswith("model.")},
    }


def _result(
    nodes: Mapping[str, Node],
    models: Sequence[str],
    folder: Path,
    scratch: Path,
    bound: Mapping[str, Mapping[str, ArtifactRef]],
) -> Build:
    results = json.loads((folder / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
    tests, failed, seconds = [], {}, {}
    for result in results:
        unique_id, status = result["unique_id"], result["status"]
        if unique_id.startswith("test."):
            if status == "skipped":
                continue
            severity = str(nodes[unique_id]["config"]["severity"]).lower()
            tests.append(
                TestResult(
                    unique_id=unique_id,
                    passed=status in {"pass", "success"},
                    is_blocking=severity == "error",
                    failures=int(result.get("failures") or 0),
                    message=str(result.get("message") or ""),
                )
            )
        elif status == "success":
            seconds[unique_id] = float(result["execution_time"])
        else:
            failed[unique_id] = str(result.get("message") or status)
    return Build(seconds=seconds, tests=tests, failed=failed, scratch=scratch, models=models, bound=bound)

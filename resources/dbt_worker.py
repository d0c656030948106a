"""A process that runs models of one dbt project again and again: it is parsed once, and each job has its own bindings.

What is built and from which files stays out; see `resources.rebuild`, which starts it and asks one line of JSON at a
time: `{"bindings": "...", "target": "...", "models": ["stg_orders"]}`. The answer is `{"error": null}` or says what
went wrong. Two of dbt's runners break each other in threads of one process, so there is a process for each.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.dbt_lake import VARIABLE

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


def main(arguments: Sequence[str]) -> None:
    """Answer jobs from stdin until it ends.

    Args:
        arguments: the dbt project's folder, a scratch folder, and the profile's target ('' for its default).
    """
    project, folder, target = Path(arguments[0]), Path(arguments[1]), arguments[2]
    # dbt prints to stdout, where answers go: it gets the log instead.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        always = [
            "--project-dir", str(project), "--profiles-dir", str(project), "--log-path", str(folder),
            "--log-level-file", "none", "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-write-json",
            *(["--target", target] if target else []),
        ]  # fmt: skip
        manifest = None
        for line in sys.stdin:
            job = json.loads(line)
            manifest = manifest or _parsed(project, folder, always)
            print(json.dumps({"error": _run(job, manifest, always)}), file=answers, flush=True)


def _parsed(project: Path, folder: Path, always: Sequence[str]) -> "Manifest":
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    saved = project / "target" / "partial_parse.msgpack"
    if saved.exists():
        shutil.copy(saved, folder)
    done = dbtRunner().invoke(["parse", *always, "--target-path", str(folder)])
    if not done.success:
        raise SystemExit(f"dbt cannot parse {project}: {done.exception}")
    if not isinstance(done.result, Manifest):
        raise TypeError(f"dbt's parse gave {type(done.result).__name__}; expected its manifest.")
    return done.result


def _run(job: dict[str, Any], manifest: "Manifest", always: Sequence[str]) -> str | None:
    """Run a job's models; return what went wrong."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    os.environ[VARIABLE] = job["bindings"]
    # The adapter keeps its database in memory for the next invocation, with the files of the last one bound.
    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    done = dbtRunner(manifest=manifest).invoke(
        ["run", *always, "--target-path", job["target"], "--threads", "1", "--select", *job["models"]]
    )
    if done.success:
        return None
    results: Any = done.result
    failed = [
        f"{result.node.name}: {result.message}"
        for result in getattr(results, "results", ())
        if result.status not in {"success", "skipped"}
    ]
    return "\n".join(failed) or str(done.exception)


if __name__ == "__main__":
    main(sys.argv[1:])

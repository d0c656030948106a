"""The prediction service: one row a request beside MLflow and BentoML, and a batch beside `Booster.predict`.

The others get the same model, and rows that are encoded already, with 0 for a missing value, which MLflow would read as
an object. The interpreter of each has its package and lightgbm.
"""

import argparse
import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import polars as pl
import psutil

from benchmarks.soak import soak
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import load_booster, raw_scores
from ml_assets.logic.training.golden_rows import golden_rows
from ml_assets.serving.protocols.arrow_stream import ARROW
from ml_assets.serving.served_model import ServedModel, load_served_model
from ml_assets.settings import lake_url

BATCH = 10_000
MLFLOW_SAVES = (
    "import sys, lightgbm, mlflow.lightgbm as m; m.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])"
)
BENTOML_SERVICE = """
import bentoml, lightgbm, numpy

@bentoml.service(workers=1)
class Model:
    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file="model.txt")

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        return self.booster.predict(numpy.array(rows), num_threads=1).tolist()
"""


def main() -> None:
    """Measure in turn, and print each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mlflow", metavar="PYTHON", help="an interpreter with mlflow and lightgbm")
    parser.add_argument("--bentoml", metavar="PYTHON", help="an interpreter with bentoml and lightgbm")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="instead: a soak, with a promotion a minute")
    arguments = parser.parse_args()
    served = load_served_model(Lake(lake_url()), arguments.model)
    if arguments.soak is not None:
        print(*soak(served.model, arguments.model, seconds=arguments.soak, promote_every=60).lines(), sep="\n")
        return
    rows = golden_rows(served.model)
    path = f"/v1/models/{arguments.model}/predict"
    own = [sys.executable, "-m", "ml_assets.cli.main", "serve", arguments.model, "--no-log", "--port"]
    with _started(own, "/ready") as service:
        _print_batches(served, rows, f"http://127.0.0.1:{service[0]}{path}", arguments.rounds)
        ours = [json.dumps({"rows": [row]}).encode() for row in rows.to_dicts()]
        with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
            others = [
                (it.name, started.enter_context(_started(it.command, it.probe, folder)), it.path, it.bodies)
                for it in _others(served, rows, Path(folder), arguments)
            ]
            for _ in range(arguments.rounds):
                for name, measured, route, bodies in [("ml-assets", service, path, ours), *others]:
                    _print_rows(name, measured, route, bodies, arguments)


@dataclass(frozen=True)
class _Other:
    """Another service: its command without the port, the paths of its probe and of predictions, and requests."""

    name: str
    command: list[str]
    probe: str
    path: str
    bodies: list[bytes]


def _others(served: ServedModel, rows: pl.DataFrame, folder: Path, arguments: argparse.Namespace) -> Iterator[_Other]:
    """Save the model into a folder for each other service that is asked for."""
    text = folder / "model.txt"
    text.write_text(served.model.text, encoding="utf-8")
    names = load_booster(served.model).feature_name()
    encoded = pl.DataFrame(served.inputs.encode_frame(rows).matrix, schema=names).fill_nan(0.0).rows()
    if (python := arguments.mlflow) is not None:
        saved = str(folder / "saved")
        subprocess.run([python, "-c", MLFLOW_SAVES, str(text), saved], check=True, capture_output=True)
        command = [python, "-m", "mlflow", "models", "serve", "-m", saved, "--env-manager", "local", "-p"]
        bodies = [json.dumps({"dataframe_split": {"columns": names, "data": [row]}}).encode() for row in encoded]
        yield _Other("mlflow", command, "/ping", "/invocations", bodies)
    if (python := arguments.bentoml) is not None:
        (folder / "bento_service.py").write_text(BENTOML_SERVICE, encoding="utf-8")
        command = [python, "-m", "bentoml", "serve", "bento_service:Model", "--port"]
        yield _Other(
            "bentoml", command, "/readyz", "/predict", [json.dumps({"rows": [row]}).encode() for row in encoded]
        )


@contextmanager
def _started(command: Sequence[str], probe: str, folder: str | None = None) -> Iterator[tuple[int, psutil.Process]]:
    """Start a service on a free port, and wait until it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = time.perf_counter()
    environment = {
        **os.environ,
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow's uvicorn
        "BENTOML_DO_NOT_TRACK": "True",
    }
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*command, str(port)], env=environment, cwd=folder, stdout=quiet, stderr=quiet) as process:
        while not _is_ready(f"http://127.0.0.1:{port}{probe}"):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            time.sleep(0.02)
        print(f"{command[2]}: ready after {time.perf_counter() - begun:.1f} s", flush=True)
        try:
            yield port, psutil.Process(process.pid)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - of this machine
            return int(answer.status) == 200
    except OSError:
        return False


def _print_rows(
    name: str, service: tuple[int, psutil.Process], path: str, bodies: Sequence[bytes], arguments: argparse.Namespace
) -> None:
    port, process = service
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
    sent = [f"{head}{len(it)}\r\n\r\n".encode() + it for it in bodies]
    before, begun = _cpu(process), time.perf_counter()
    seconds = asyncio.run(_load(port, sent, arguments.requests // arguments.connections, arguments.connections))
    wall, used = time.perf_counter() - begun, _cpu(process) - before
    memory = sum(it.memory_info().rss for it in (process, *process.children(recursive=True))) / 2**20
    print(
        f"{name:10} {len(seconds) / wall:7.0f} requests/s  median {1e3 * median(seconds):6.2f} ms  "
        f"p99 {1e3 * quantiles(seconds, n=100)[98]:7.2f} ms  CPU {1e6 * used / len(seconds):6.0f} µs a request  "
        f"{memory:5.0f} MiB  load {os.getloadavg()[0]:.0f}",
        flush=True,
    )


def _cpu(process: psutil.Process) -> float:
    """Return the seconds of CPU of a process and its children."""
    return sum(sum(it.cpu_times()[:2]) for it in (process, *process.children(recursive=True)))


async def _load(port: int, sent: Sequence[bytes], each: int, connections: int) -> list[float]:
    """Return the seconds of each request."""
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(each):
            begun = time.perf_counter()
            writer.write(sent[number % len(sent)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in head[:15], head
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            seconds.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return seconds


def _print_batches(served: ServedModel, rows: pl.DataFrame, url: str, rounds: int) -> None:
    """Print the seconds of a batch of Arrow over HTTP, and of `Booster.predict` for the same encoded rows.

    `raw_scores` ends LightGBM's threads after the call; they would take time from the service.
    """
    batch = pl.concat([rows] * (BATCH // rows.height + 1)).head(BATCH)
    file = io.BytesIO()
    batch.write_ipc_stream(file)
    matrix, booster = served.inputs.encode_frame(batch).matrix, load_booster(served.model)
    request = urllib.request.Request(url, file.getvalue(), {"Content-Type": ARROW})  # noqa: S310 - of this machine
    over_http, in_process = [], []
    for _ in range(5 * rounds):
        begun = time.perf_counter()
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            answer.read()
        between = time.perf_counter()
        raw_scores(booster, matrix, classes=len(served.model.spec.classes), threads=2)
        over_http.append(between - begun)
        in_process.append(time.perf_counter() - between)
    ratio = median(over_http) / median(in_process)
    print(
        f"{BATCH} rows: Arrow {median(over_http):.3f} s, Booster.predict {median(in_process):.3f} s, {ratio:.2f} times"
    )


if __name__ == "__main__":
    main()

"""What tracing costs in a large lake: the whole command, beside reading every manifest that there is.

Not here: tracing on S3, which is bounded by the service's responses, not by this code.

    python -m benchmarks.lake_trace

The lake is written to a temporary folder: by-day assets with many versions a day, of which one model's lineage has a
twentieth. Without inputs in the manifests one would have to read all of them to find those of a model, as the
alternative does; it reads with the same code and validates the same way. All are whole processes, imports included,
and take turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from ml_assets.lake.manifest import ArtifactRef, FileEntry, Manifest
from ml_assets.lake.order import OrderRecord, manifest_name
from ml_assets.lake.sealing import seal

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ("raw/orders", "tables/stg_orders", "tables/int_orders", "tables/orders", "shop/features", "shop/labels")
WINDOW = 28
BAR = 2.0
COLUMNS = {f"column_{number}": "Float64" for number in range(25)}
FIRST = datetime(2015, 1, 1, tzinfo=UTC)

_EVERY = """
import sys
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.manifests import Manifests
lake = Manifests(sys.argv[1])
root = lake.path("artifacts")
paths = [f"{root}/{path}" for path in lake.tree(root)]
found = {}
for path in paths:
    manifest = Manifest.read(lake.read(path), path)
    found[manifest.asset, manifest.partition, manifest.version] = manifest.inputs
waiting, seen = [key for key in found if key[0] == "shop/model"], set()
while waiting:
    key = waiting.pop()
    if key not in seen:
        seen.add(key)
        waiting += [(it.asset, it.partition, it.version) for it in found[key]]
print(len(seen))
"""


def main() -> None:
    """Make the lake, time both ways in turn, print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=830, help="days of each of six assets (default: %(default)s)")
    parser.add_argument("--versions", type=int, default=20, help="versions of each day (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lake-trace-") as folder:
        start = time.monotonic()
        made, reached = _make(Path(folder), arguments.days, arguments.versions)
        print(f"{made:,} manifests made in {time.monotonic() - start:.0f} s; {reached:,} are the model's lineage")
        commands = {
            "trace": ["-m", "ml_assets.cli.main", "trace", "shop"],
            "every manifest": ["-c", _EVERY, folder],
            "trace forward": ["-m", "ml_assets.cli.main", "trace", "--raw", "orders", str(FIRST.date())],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.repeat):
            for name, command in commands.items():
                took[name].append(_time(command, folder))
        one = median(took["trace"])
        for name, seconds in took.items():
            print(f"{name:<16}{median(seconds):7.2f} s  {median(seconds) / one:6.2f} of trace")
        print(f"bar: a trace takes under {BAR} s; {'held' if one < BAR else 'MISSED'}")


def _make(root: Path, days: int, versions: int) -> tuple[int, int]:
    """Write the lake's manifests, and return their number and the number in the model's lineage, with itself."""
    made = 0
    newest: dict[tuple[str, int], ArtifactRef] = {}
    for version in range(1, versions + 1):
        for place, asset in enumerate(ASSETS):
            for day in range(days):
                inputs = []
                if place:
                    window = WINDOW if asset == "tables/orders" else 1
                    inputs = [newest[ASSETS[place - 1], it] for it in range(max(0, day - window + 1), day + 1)]
                newest[asset, day] = _write(root, asset, day, (made, version), inputs)
                made += 1
    frames = [newest[asset, day] for asset in ASSETS[-2:] for day in range(days)]
    training = _write(root, "shop/training_set", None, (made, 1), frames)
    _write(root, "shop/model", None, (made + 1, 1), [training])
    return made + 2, len(newest) + 2


def _write(root: Path, asset: str, day: int | None, which: tuple[int, int], inputs: list[ArtifactRef]) -> ArtifactRef:
    """Write a manifest and its record; `which` counts all manifests, and those of its partition."""
    number, publication = which
    partition = None if day is None else str((FIRST + timedelta(days=day)).date())
    ref = ArtifactRef(asset=asset, partition=partition, version=f"{number:032x}")
    manifest = Manifest(
        **ref.model_dump(), number=publication, created_at=FIRST + timedelta(seconds=number), inputs=tuple(inputs),
        input_numbers=(publication,) * len(inputs), code_version="c" * 16,
        parameters={"file": "orders.csv", "source": "a" * 32} if asset == ASSETS[0] else {}, git_commit="d" * 40,
        git_is_dirty=False, environment="e" * 32, run_id=f"run-{number // 1000}", rows=1000, columns=COLUMNS,
        seconds=0.1, files=(FileEntry(name="data.parquet", bytes=1, digest="f" * 32),),
    )  # fmt: skip
    name = manifest_name(manifest, f"{number:08x}")
    record = OrderRecord.of(manifest, name)
    folder, path = root / "artifacts" / asset / (partition or "") / ref.version, root / record.path
    folder.mkdir(parents=True)
    (folder / name).write_bytes(manifest.text())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seal(record))
    return ref


def _time(command: list[str], lake: str) -> float:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, "ML_ASSETS_LAKE": lake},
    )  # fmt: skip
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{command[:4]} failed:\n{done.stdout}{done.stderr}")
    return seconds


if __name__ == "__main__":
    main()

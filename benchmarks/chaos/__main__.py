"""Faults at random moments of real work: their number and their outcomes.

    python -m benchmarks.chaos [--seed 1] [--trials 10] [--keep] [kills disk ...]

Survived: the result is as without the fault, after a second run if the process crashed. Noticed: rejected with a
message that names the object. Lost: everything else. Ends with 1 if anything is lost.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.chaos import damage, flows, hostile, races
from benchmarks.chaos.trials import Kind, Scene, Trial
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from tests.flights import DBT_PROJECT
from tests.killing import undisturbed_flow

KINDS: Final[dict[str, tuple[str, Kind]]] = {
    "kills": ("killed at a change of the disk", flows.kills),
    "sigkill": ("SIGKILL at a random moment", flows.real_kills),
    "interrupts": ("Ctrl-C at a random moment", flows.interrupts),
    "disk": ("a change of the disk fails", flows.disk),
    "limits": ("files, memory, TMPDIR, permission", flows.limits),
    "damage": ("a damaged file, read", damage.reads),
    "mending": ("a damaged file, run again", damage.runs),
    "s3": ("an S3 request fails", flows.s3),
    "landings": ("raced landings of one day", races.landings),
    "flows": ("raced flows of one model", races.flows),
    "promotions": ("raced promotions", races.promotions),
    "clocks": ("a clock one year off", races.clocks),
    "models": ("a malformed model", hostile.models),
    "yaml": ("a hostile declaration", hostile.declarations),
    "sources": ("a hostile source", hostile.sources),
}


def main() -> int:
    """Inject, print the table; 1 if anything is lost."""
    arguments = _arguments()
    found: dict[str, list[Trial]] = {}
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        prepare_manifest(DBT_PROJECT)
        flow = undisturbed_flow(folder / "undisturbed")
        for kind in arguments.kinds or KINDS:
            what, trials = KINDS[kind]
            mine = folder / kind
            mine.mkdir()
            # A kind's faults are the same whichever kinds are tried beside it.
            scene = Scene(mine, Random(f"{arguments.seed} {kind}"), arguments.trials, flow)  # noqa: S311
            since = time.monotonic()
            found[kind] = []
            for trial in trials(scene):
                found[kind].append(trial)
                if trial.verdict == "lost":
                    print(f"{kind}: {trial.fault}: lost: {trial.detail}", file=sys.stderr)
            print(f"{what}: {len(found[kind])} in {time.monotonic() - since:.0f} s", file=sys.stderr)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    return _print(found, arguments.seed)


def _print(found: dict[str, list[Trial]], seed: int) -> int:
    print(f"seed {seed}\n\n| fault | injected | survived | noticed | lost |\n|---|---:|---:|---:|---:|")
    whole: Counter[str] = Counter()
    for kind, trials in found.items():
        counts = Counter[str](trial.verdict for trial in trials)
        whole += counts
        print(_row(KINDS[kind][0], counts))
    print(_row("all", whole))
    return 1 if whole["lost"] else 0


def _row(what: str, counts: Counter[str]) -> str:
    return f"| {what} | {counts.total()} | {counts['survived']} | {counts['noticed']} | {counts['lost']} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=10, help="of each kind (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the lakes, to look at what was lost")
    arguments = parser.parse_args()
    if unknown := [kind for kind in arguments.kinds if kind not in KINDS]:
        parser.error(f"no kind {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

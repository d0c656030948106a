"""Faults during the whole flow: kills, a disk that fails, an S3 that fails, Ctrl-C, and what a machine lacks.

Each ends in a plain second run, whose outcome must be that of a flow which nothing disturbed.
"""

import errno
import logging
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.chaos.trials import TRACEBACK, Scene, Trial, end, run, start
from ml_assets.cli.console.problems import KNOWN
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Span
from tests.faults import FaultyDisk, FaultyS3
from tests.killing import MODEL, PREDICTED, Change, outcome

CHILD: Final = "benchmarks.chaos.child"
DISK: Final = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "EMFILE": errno.EMFILE}
S3_SHARE: Final = 0.05
QUICK: Final = {"first_wait": 0.01, "longest_wait": 0.05}
INTERRUPTED: Final = 130


def kills(scene: Scene) -> Iterator[Trial]:
    """Kill -9 in the middle of a change of the disk: what it leaves, and then the next run."""
    changes = [n for n, it in enumerate(scene.flow.changes) if it.seen or it.name == "fill"]
    for trial, number in enumerate(sorted(scene.random.sample(changes, scene.trials))):
        change = scene.flow.changes[number]
        lake = scene.lake(trial)
        lake.mkdir()
        for before in scene.flow.changes[:number]:
            before.do(lake)
        if change.name == "fill":
            change.do(lake, half=True)
        yield ended_as_undisturbed(scene, lake, f"killed in {_described(change)}")


def _described(change: Change) -> str:
    return f"'{change.name}' of {change.target or change.path}"


def real_kills(scene: Scene) -> Iterator[Trial]:
    """SIGKILL to a running command at a moment that nothing in it knows of."""
    for trial, seconds in enumerate(_moments(scene)):
        lake = scene.lake(trial)
        process = start(CHILD, command(scene), environment(lake))
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        yield ended_as_undisturbed(scene, lake, f"SIGKILL after {seconds:.1f} s")


def disk(scene: Scene) -> Iterator[Trial]:
    """One change of the disk fails: the run reports it, and the next one succeeds."""
    count = len(scene.flow.changes)
    for trial in range(scene.trials):
        name = scene.random.choice([*DISK])
        number = scene.random.randrange(1, count)
        lake, fault = scene.lake(trial), f"{name} at change {number:,} of {count:,}"
        messages: list[str] = []
        with FaultyDisk(at=number, then=_fails(DISK[name])), scene.flow.flow(LakeResource(url=str(lake))) as whole:
            try:
                is_done = whole.flow.run(Span.of(whole.model, as_of=None, first=PREDICTED, last=None), messages.append)
            except OSError as error:
                yield Trial(fault, "lost", f"a bare {type(error).__name__}: {error}")
                continue
            text = "\n".join([*messages, whole.log.getvalue()])
        if not is_done and (os.strerror(DISK[name]) not in text or TRACEBACK in text):
            yield Trial(fault, "lost", f"no message of its own: {text[-500:]}")
            continue
        yield ended_as_undisturbed(scene, lake, fault)


def _fails(code: int) -> Callable[[str], None]:
    def fail(_: str) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def s3(scene: Scene) -> Iterator[Trial]:
    """A twentieth of the requests to S3 fails as networks do, during whole flows; each fault counts as a trial."""
    import boto3

    from tests.s3_server import start_s3_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server, address = start_s3_server()
    try:
        access = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=address, **access)
        options = {"key": "key", "secret": "secret", "client_kwargs": {"region_name": "us-east-1"}, **QUICK}
        for number in range(max(1, scene.trials // 10)):
            bucket = f"chaos-{number}"
            client.create_bucket(Bucket=bucket)
            seed = scene.random.randrange(2**30)
            with FaultyS3(address, share=S3_SHARE, seed=seed) as proxy:
                lake = LakeResource(url=f"s3://{bucket}/lake", options={**options, "endpoint_url": proxy.endpoint})
                with scene.flow.flow(lake) as whole:
                    whole.run(first=PREDICTED)
                is_same = outcome(lake.connect()) == outcome(Lake(str(scene.flow.lake)))
                for kind, times in proxy.injected.items():
                    for _ in range(times):
                        yield Trial(kind, "survived" if is_same else "lost", "" if is_same else "another end")
    finally:
        server.stop()


def interrupts(scene: Scene) -> Iterator[Trial]:
    """Ctrl-C at any moment: code 130 within ten seconds, no stack trace, and the next run continues."""
    for trial, seconds in enumerate(_moments(scene)):
        lake, fault = scene.lake(trial), f"Ctrl-C after {seconds:.1f} s"
        process = start(CHILD, command(scene), environment(lake))
        time.sleep(seconds)
        since = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        ended = end(process, since=since, seconds=60)
        if process.returncode == 0 and ended.code == 0:
            yield Trial(fault, "survived")
        elif ended.code != INTERRUPTED or TRACEBACK in ended.output or ended.seconds > 10:
            yield Trial(fault, "lost", ended.summary)
        else:
            yield ended_as_undisturbed(scene, lake, fault)


def limits(scene: Scene) -> Iterator[Trial]:
    """What a machine may lack has a message of its own each; with it back the next run ends well."""
    not_a_folder = scene.folder / "file"
    not_a_folder.touch()
    lacks: Mapping[str, tuple[str, Mapping[str, str]]] = {
        "files of at most 100 kB": (f"{resource.RLIMIT_FSIZE}:100000", {}),
        "40 open files": (f"{resource.RLIMIT_NOFILE}:40", {}),
        "1 GiB of address space": (f"{resource.RLIMIT_AS}:{2**30}", {}),
        "no TMPDIR": ("", {"TMPDIR": str(scene.folder / "nowhere")}),
        "a lake below a file": ("", {"ML_ASSETS_LAKE": str(not_a_folder / "lake")}),
    }
    for trial, (what, (limit, given)) in enumerate(lacks.items()):
        lake = scene.lake(trial)
        starved = {**environment(lake), **given, "CHAOS_LIMIT": limit}
        ended = run("benchmarks.chaos.starved", [CHILD, *command(scene)], starved)
        if ended.code == 0 or ended.is_refusal(1, 2, 3):
            found = ended_as_undisturbed(scene, lake, what)
            yield found._replace(verdict="noticed") if found.verdict == "survived" and ended.code else found
        else:
            yield Trial(what, "lost", ended.summary)


def _moments(scene: Scene) -> list[float]:
    """Return moments of a run, of which one that nothing disturbs is timed first."""
    ended = run(CHILD, command(scene), environment(scene.folder / "timed"))
    if ended.code != 0:
        raise SystemExit(f"the small flow does not even end undisturbed: {ended.summary}")
    return sorted(scene.random.uniform(0, ended.seconds) for _ in range(scene.trials))


def command(scene: Scene, name: str = "run", *rest: str) -> list[str]:
    """Return the arguments of a command about the small flow's model: a run of all of it, or another."""
    return [str(scene.flow.sources), str(scene.flow.memory), name, MODEL, *(rest or ("--from", PREDICTED))]


def environment(lake: Path) -> dict[str, str]:
    """Return where a command keeps everything."""
    return {"ML_ASSETS_LAKE": str(lake), "DAGSTER_HOME": f"{lake}-dagster"}


def ended_as_undisturbed(scene: Scene, lake: Path, fault: str, *, may_refuse: bool = False) -> Trial:
    """Run once more, and compare the end with that of the undisturbed flow."""
    with scene.flow.flow(LakeResource(url=str(lake))) as whole:
        messages: list[str] = []
        try:
            is_done = whole.flow.run(Span.of(whole.model, as_of=None, first=PREDICTED, last=None), messages.append)
            found, expected = outcome(Lake(str(lake))), outcome(Lake(str(scene.flow.lake)))
        except KNOWN as error:
            return Trial(fault, "noticed" if may_refuse else "lost", f"the next run says: {error}")
        except Exception as error:  # noqa: BLE001 - any error is the trial's outcome
            return Trial(fault, "lost", f"the next run failed: {type(error).__name__}: {str(error)[-400:]}")
        text = whole.log.getvalue()
    if not is_done:
        is_noticed = may_refuse and TRACEBACK not in text
        return Trial(fault, "noticed" if is_noticed else "lost", f"the next run failed: {text[-400:]}")
    differs = [name for name, value in expected.items() if found[name] != value]
    if not differs:
        shutil.rmtree(lake)
        return Trial(fault, "survived")
    return Trial(fault, "lost", f"other {', '.join(differs)} in {lake}")

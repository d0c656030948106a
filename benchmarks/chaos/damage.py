"""Every kind of file that the lake of a small flow holds, damaged in five ways: read by its readers, and run again."""

import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.chaos.flows import ended_as_undisturbed
from benchmarks.chaos.trials import Scene, Trial
from ml_assets.contracts import decisions
from ml_assets.contracts.artifacts import card, evaluation, monitoring, training
from ml_assets.lake.errors import LakeError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.order import RECORDS
from ml_assets.lake.origin import load_environment
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.sealed_frame import read_frame
from ml_assets.lake.steps import last_attempt
from ml_assets.lake.store import Lake
from tests.damage import WAYS, by_kind

_KINDS: Final[Mapping[str, type]] = {
    "training_set": training.TrainingSet, "importances": training.Importances, "tuning": training.Tuning,
    "model": training.Model, "evaluation": evaluation.Evaluation, "champion": decisions.Promotion,
    "drift": monitoring.DailyDrift, "performance": monitoring.DailyPerformance, "card": card.Card,
}  # fmt: skip


def reads(scene: Scene) -> Iterator[Trial]:
    """Damage each kind of file in each way: a reader gets what was written, or a message that names the file."""
    root = scene.lake(0)
    shutil.copytree(scene.flow.lake, root)
    for kind, paths in _kinds(root).items():
        for way in WAYS:
            path = scene.random.choice(paths)
            yield _read_damaged(root, kind, path, way)


def _read_damaged(root: Path, kind: str, path: str, way: str) -> Trial:
    file, fault = root / path, f"{kind} {way}"
    before, data = _value(Lake(str(root)), path), file.read_bytes()
    _damage(file, way)
    try:
        found = _value(Lake(str(root)), path)
    except LakeError as error:
        is_named = any(part in str(error) for part in path.split("/")[1:])
        return Trial(fault, "noticed" if is_named else "lost", f"the message names nothing: {error}")
    except Exception as error:  # noqa: BLE001 - any error is the trial's outcome
        return Trial(fault, "lost", f"{type(error).__name__}: {error}")
    finally:
        file.write_bytes(data)
    # A study that is gone is searched again; everything else must be there.
    return (
        Trial(fault, "survived")
        if found in (before, None)
        else Trial(fault, "lost", "read as something else, silently")
    )


def runs(scene: Scene) -> Iterator[Trial]:
    """Damage some of them, and run the flow again: it repairs what it can materialize, or stops and names the file."""
    for trial in range(scene.trials):
        root = scene.lake(trial)
        shutil.copytree(scene.flow.lake, root)
        kind, paths = scene.random.choice([*_kinds(root).items()])
        path, way = scene.random.choice(paths), scene.random.choice([*WAYS])
        _damage(root / path, way)
        yield ended_as_undisturbed(scene, root, f"{kind} {way}", may_refuse=True)


def _kinds(root: Path) -> dict[str, list[str]]:
    return by_kind(str(it.relative_to(root)) for it in root.rglob("*") if it.is_file())


def _damage(file: Path, way: str) -> None:
    """Damage a file in one of the ways of `tests.damage`."""
    damaged = WAYS[way](file.read_bytes(), _another(file))
    if damaged is None:
        file.unlink()
    else:
        file.write_bytes(damaged)


def _another(file: Path) -> bytes:
    """Return another valid file of the same kind: with a row less, or another digit."""
    if file.suffix == ".parquet":
        frame = pl.read_parquet(file)
        other = io.BytesIO()
        frame.head(max(0, frame.height - 1)).write_parquet(other)
        return other.getvalue()
    data = bytearray(file.read_bytes())
    digits = [place for place, byte in enumerate(data) if byte in b"012345678"]
    data[digits[len(digits) // 2]] += 1
    return bytes(data)


def _ref(path: str) -> ArtifactRef | None:
    """Return the artifact that a file is of."""
    top, *parts = path.split("/")
    if top != "artifacts":
        return None
    version = next(n for n, part in enumerate(parts) if re.fullmatch(r"[0-9a-f]{32}", part))
    is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", parts[version - 1]) is not None
    asset = "/".join(parts[: version - is_day])
    return ArtifactRef(asset=asset, partition=parts[version - 1] if is_day else None, version=parts[version])


def _value(lake: Lake, path: str) -> object:
    """Return what a file is part of, as its readers get it, in a form that can be compared."""
    ref = _ref(path)
    if ref is None:
        top, *parts = path.split("/")
        return _READERS[top](lake, parts)
    value = lake.get(ref, _KINDS.get(ref.asset.split("/")[-1], pl.DataFrame))
    return lake.manifest(ref), {name: _plain(it) for name, it in getattr(value, "__dict__", {"": value}).items()}


def _plain(value: object) -> object:
    return value.to_dict(as_series=False) if isinstance(value, pl.DataFrame) else value


def _publication(lake: Lake, parts: list[str]) -> object:
    """Return which version is current, and the record that defines it."""
    path = lake.path("order", *parts)
    asset, day = parts[:2], parts[2:-1]
    return lake.newest("/".join(asset), day or [""]), RECORDS.read(lake, path).record


def _study(lake: Lake, parts: list[str]) -> object:
    return _plain(read_frame(lake, lake.path("studies", *parts)))


_READERS: Final[Mapping[str, Callable[[Lake, list[str]], object]]] = {
    "promotions": lambda lake, parts: PromotionLog(lake, parts[0]).verified().entries,
    "runs": lambda lake, parts: last_attempt(lake, parts[0], parts[1].replace("__", "/")),
    "studies": _study,
    "environments": lambda lake, parts: load_environment(lake, parts[0].removesuffix(".json")),
    "order": _publication,
}

"""The newest feature row of each key in the lake, in memory, for requests that name only the key.

They are the rows of the current features of the newest periods, which the batch path scores. A row whose prediction
time is still to come is left out: its features are not known yet.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import is_hour_key, is_key
from ml_assets.contracts.words import counted
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake
from ml_assets.serving.logs import log_event
from ml_assets.serving.served_model import ServedModel

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_BYTES: Final = 2**28
"""Estimated memory of the rows of all periods."""
_TEXT_BYTES: Final = 40
_NUMBER_BYTES: Final = 8
_PERIOD: Final = "__period"
_SCHEMA_WORDS: Final = "periods of features are not served by key, because their columns are not those of the model"


@dataclass(frozen=True)
class FeatureRows:
    """The newest feature row of each key.

    Attributes:
        rows: key, prediction time and inputs of each key, and the place of its period among `sources`.
        sources: the artifacts that they were read from, one for each period.
        refs: the current artifacts of all periods, with those that the model cannot use.
        due_at: when another row becomes the newest one of its key; None if none does.
    """

    rows: pl.DataFrame
    key: tuple[str, ...]
    prediction_time: str
    sources: tuple[ArtifactRef, ...]
    refs: tuple[ArtifactRef, ...]
    due_at: datetime | None
    _seed: int
    _hashes: "npt.NDArray[np.uint64]"
    _places: "npt.NDArray[np.intp]"

    @classmethod
    def of(
        cls, found: pl.DataFrame, key: tuple[str, ...], prediction_time: str, refs: Sequence[ArtifactRef], now: datetime
    ) -> "FeatureRows":
        """Return the newest rows by key.

        Args:
            found: the rows of all periods, with the place of the period among `refs` in the column `__period`.
            key: the columns of the key.
            prediction_time: the column with the prediction time.
            refs: the features of each period, in their order.
            now: in UTC without a zone. Later rows are left out.
        """
        later = pl.col(prediction_time) > now
        rows = (
            found.remove(later)
            .sort(prediction_time, _PERIOD, maintain_order=True)
            .unique(key, keep="last", maintain_order=True)
        )
        due = found.filter(later)[prediction_time].min()
        for seed in itertools.count():
            hashes = rows.select(key).hash_rows(seed).to_numpy()
            places = np.argsort(hashes, kind="stable")
            if len(np.unique(hashes)) == len(hashes):
                break
        sources = tuple(refs)
        return cls(rows, key, prediction_time, sources, sources, due, seed, hashes[places], places)  # type: ignore[arg-type]

    @property
    def periods(self) -> int:
        """How many periods were read."""
        return len(self.sources)

    def versions_of(self, rows: pl.DataFrame) -> list[str]:
        """Return the version of the features that each of some of the rows is from."""
        return [self.sources[place].version for place in rows[_PERIOD]]

    @property
    def summary(self) -> dict[str, Any]:
        """What is served by key, for JSON."""
        newest = self.rows[self.prediction_time].max()
        facts = {} if newest is None else {"newest_prediction_time": f"{newest.isoformat()}Z"}  # type: ignore[union-attr]
        return {"keys": self.rows.height, "periods": self.periods, **facts}

    def places_of(self, keys: pl.DataFrame) -> list[int | None]:
        """Return the places of the rows of keys, whose columns have the types of the key; None for an unknown one."""
        if not len(self._hashes):
            return [None] * keys.height
        hashes = keys.hash_rows(self._seed).to_numpy()
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        places = self._places[at]
        same = self.rows[places].select(
            pl.all_horizontal(pl.col(name) == keys[name] for name in self.key).alias("is_same")
        )["is_same"]
        return [int(place) if is_same else None for place, is_same in zip(places, same, strict=True)]


def current_features(lake: Lake, model: str, look_back: int) -> tuple[ArtifactRef, ...]:
    """Return the current features of the newest periods of a model, in their order.

    Raises:
        LakeError: the lake cannot be read.
        CorruptArtifactError: order records are missing.
    """
    asset = f"{model}/features"
    keys = sorted(filter(is_key, lake.names(lake.path("artifacts", asset))))
    periods = [it for it in keys if is_hour_key(it) == is_hour_key(keys[-1])][-look_back:] if look_back else []
    return tuple(ref for _, ref in sorted(lake.newest(asset, periods).items())) if periods else ()


def refreshed(lake: Lake, served: ServedModel, look_back: int, now: datetime) -> ServedModel:
    """Return a model with the newest feature rows of the lake; the same object if there are no other ones.

    Args:
        lake: the lake.
        served: the model.
        look_back: the number of periods; 0 for no rows.
        now: in UTC without a zone.

    Raises:
        DataError: the rows take too much memory.
        LakeError: the lake cannot be read.
        CorruptArtifactError: features are damaged.
    """
    before = served.features
    refs = current_features(lake, served.name, look_back if served.inputs.key is not None else 0)
    is_due = before is not None and before.due_at is not None and before.due_at <= now
    if not is_due and refs == (() if before is None else before.refs):
        return served
    found = replace(served, features=_loaded(lake, served, refs, now) if refs else None)
    found.is_quick(1)  # prepares the scorer of single rows
    return found


def _loaded(lake: Lake, served: ServedModel, refs: Sequence[ArtifactRef], now: datetime) -> FeatureRows | None:
    key = served.inputs.key
    if key is None:
        return None
    wanted = {it.name: it.column.dtype for it in (*key.fields, *served.inputs.fields)}
    wanted[key.prediction_time] = pl.Datetime("us")
    manifests = lake.manifest_of_each(refs)
    usable = [ref for ref in refs if _has(manifests[ref], wanted)]
    if len(usable) < len(refs):
        others = [str(ref.partition) for ref in refs if ref not in usable]
        log_event(_SCHEMA_WORDS, {"model": served.name, "version": served.version, "periods": others})
    width = sum(_TEXT_BYTES if dtype == pl.String else _NUMBER_BYTES for dtype in wanted.values())
    size = width * sum(manifests[ref].rows or 0 for ref in usable)
    if size > MOST_BYTES:
        raise DataError(
            f"the features of the newest {counted(len(usable), 'period')} of model '{served.name}' take about "
            f"{size / 2**20:,.0f} MiB in memory for requests by key; expected at most {MOST_BYTES // 2**20}. Declare a "
            f"smaller serving.look_back of the model, or 0 to answer no requests by key."
        )
    parts = lake.map(lambda ref: lake.scan([ref]).select(*wanted), usable)
    frames = [part.with_columns(pl.lit(place).alias(_PERIOD)) for place, part in enumerate(parts)]
    if not frames:
        return None
    rows = pl.concat(frames).collect()
    found = FeatureRows.of(rows, key.names, key.prediction_time, usable, now)
    return replace(found, refs=tuple(refs))


def _has(manifest: Manifest, wanted: Mapping[str, pl.DataType]) -> bool:
    types = manifest.columns or {}
    return all(types.get(name) == str(dtype) for name, dtype in wanted.items())

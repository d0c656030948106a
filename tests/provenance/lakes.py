"""A lake of manifests alone, as small and as strange as a test wants it.

Artifacts with data stay out; see `tests.builders`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.manifests import Manifests
from tests.publications import newest_manifest, publish

START = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
ENVIRONMENT = "e" * 32


def version(*parts: object) -> str:
    """Return a version made from anything."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass
class Chronicle:
    """Writes manifests, a minute after each other."""

    root: Path
    made: list[ArtifactRef] = field(default_factory=list)
    numbers: dict[ArtifactRef, int] = field(default_factory=dict)

    @property
    def lake(self) -> Manifests:
        return Manifests(str(self.root))

    def make(
        self, asset: str, partition: str | None = None, inputs: Iterable[ArtifactRef] = (), **fields: Any
    ) -> ArtifactRef:
        """Publish one manifest, of a version that its asset, partition and number of makings say unless it is given."""
        ref = ArtifactRef(
            asset=asset, partition=partition, version=fields.pop("version", version(asset, partition, len(self.made)))
        )
        self.made.append(ref)
        inputs, number = tuple(inputs), 1 + sum((it.asset, it.partition) == (asset, partition) for it in self.made[:-1])
        facts: dict[str, Any] = {
            "created_at": START + timedelta(minutes=len(self.made)), "code_version": f"code-{asset[-5:]}",
            "git_commit": "c" * 40, "git_is_dirty": False, "environment": ENVIRONMENT, "run_id": "run-1", "rows": 10,
        }  # fmt: skip
        facts |= {"inputs": inputs, "input_numbers": tuple(self.numbers.get(it, 0) for it in inputs), "number": number}
        manifest = Manifest(**ref.model_dump(), files=(), **{**facts, **fields})
        publish(self.lake, manifest)
        self.numbers[ref] = number
        return ref

    def manifest(self, ref: ArtifactRef) -> Path:
        """Return where an artifact's newest manifest is."""
        return newest_manifest(self.lake, ref)

    def folder(self, ref: ArtifactRef, top: str = "") -> Path:
        """Return where an artifact's manifests are."""
        return self.root / top / "artifacts" / ref.asset / (ref.partition or "") / ref.version


def shop(root: Path) -> Chronicle:
    """Return a lake in which one model was made: two days of raw orders, a whole raw table, and predictions."""
    chronicle = Chronicle(root)
    days = ("2026-10-01", "2026-10-02")
    raw = {"file": "orders.csv", "source": "a" * 32}
    shops = chronicle.make("raw/shops", parameters={"file": "shops.csv", "source": "b" * 32}, rows=3)
    orders = [chronicle.make("raw/orders", day, parameters=raw) for day in days]
    tables = [
        chronicle.make("tables/stg_orders", day, [ref, shops], parameters={"dbt": "model.shop.stg_orders"})
        for day, ref in zip(days, orders, strict=True)
    ]
    features = [chronicle.make("shop/features", day, [ref]) for day, ref in zip(days, tables, strict=True)]
    training = chronicle.make("shop/training_set", None, features, rows=20, run_id="run-2")
    model = chronicle.make("shop/model", None, [training], rows=None, run_id="run-2")
    chronicle.make("shop/evaluation", None, [training, model], rows=None, run_id="run-2")
    chronicle.make("shop/predictions", days[1], [features[1], model], run_id="run-3")
    return chronicle

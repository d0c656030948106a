"""Manifests as files: where an artifact's newest one is, publishing one without its data, and under a wrong clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.lake import store as lake_module
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.order import MANIFEST_NAME, RECORDS, OrderRecord, manifest_name, number_in


def newest_manifest(lake: Manifests, ref: ArtifactRef) -> Path:
    """Return the path of an artifact's newest manifest."""
    return Path(lake.directory(ref)) / newest_name(lake, ref)


def newest_name(lake: Manifests, ref: ArtifactRef) -> str:
    """Return the file name of an artifact's newest manifest."""
    return max(filter(MANIFEST_NAME.fullmatch, lake.names(lake.directory(ref))), key=number_in)


def publish(lake: Manifests, manifest: Manifest) -> None:
    """Write a manifest, and the record that publishes it."""
    name = manifest_name(manifest)
    lake.create(f"{lake.directory(manifest.ref)}/{name}", manifest.text())
    record = OrderRecord.of(manifest, name)
    assert RECORDS.claim(lake, record)


@contextmanager
def clock(off: timedelta) -> Iterator[None]:
    """Let the lake's machine have a clock that is off."""

    class Off(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Off":
            return cls.fromtimestamp((datetime.now(tz=UTC) + off).timestamp(), tz=tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake_module, "datetime", Off)
        yield

"""The manifest as text: its fields, and that every edit is detected."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ml_assets.lake.errors import CorruptArtifactError, FormatVersionError
from ml_assets.lake.manifest import ArtifactRef, Cost, FileEntry, Manifest, PodResources
from tests.builders import of_newer_format

MADE = Manifest(
    asset="shop/orders",
    partition="2013-01-01",
    version="0" * 32,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    inputs=(ArtifactRef(asset="raw/orders", partition="2013-01-01", version="1" * 32),),
    input_numbers=(1,),
    parameters={"share": 0.1, "said": 'a "word", and\nmore'},
    files=(FileEntry(name="data.parquet", bytes=12, digest="2" * 32),),
    rows=3,
)


def test_a_stored_manifest_is_read_back_unchanged() -> None:
    assert MADE == Manifest.read(MADE.text(), "here")


def test_its_text_is_json_that_ends_with_the_digest_of_the_preceding_fields() -> None:
    lines = MADE.text().decode().splitlines()

    assert ["{", "}"] == [lines[0], lines[-1]]
    assert lines[-2].startswith(' "digest": "')


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(b'"rows": 3', b'"rows": 4'),
        lambda text: text.replace(b"raw/orders", b"raw/others"),
        lambda text: text.replace(b'"share": 0.1', b'"share":  0.1'),
        lambda text: text.rstrip(),
        lambda text: text + b" ",
        lambda text: text[: text.rindex(b",")] + b"\n}\n",
        lambda text: text.replace(b' "digest": "', b' "digest": "f'),
    ],
)
def test_an_edited_manifest_is_named(edit: Callable[[bytes], bytes]) -> None:
    with pytest.raises(
        CorruptArtifactError, match=r"here is not a manifest as it was written: it was (edited|cut off)"
    ):
        Manifest.read(edit(MADE.text()), "here")


@pytest.mark.parametrize("length", [0, 1, 50, 300])
def test_a_truncated_manifest_is_named(length: int) -> None:
    with pytest.raises(CorruptArtifactError, match="here is not a manifest"):
        Manifest.read(MADE.text()[:length], "here")


def test_a_manifest_of_a_later_release_is_reported_as_such() -> None:
    with pytest.raises(
        FormatVersionError,
        match="here is a manifest of format version 2, but the installed ml-assets reads versions up to 1",
    ):
        Manifest.read(of_newer_format(MADE.text()), "here")


def test_a_step_with_several_artifacts_divides_its_seconds_and_not_its_memory() -> None:
    step = Cost(
        seconds=9.0,
        cpu_seconds=18.0,
        peak_memory_bytes=100,
        gpu_seconds=3.0,
        requested=PodResources(cpu=2.0, memory_bytes=200),
    )

    assert Cost(
        seconds=1.5, cpu_seconds=3.0, peak_memory_bytes=100, gpu_seconds=0.5, parts=3, requested=step.requested
    ) == step.share(3, of=0.5)
    assert (None, None) == (Cost(seconds=1.0).share(2).cpu_seconds, Cost(seconds=1.0).share(2).gpu_seconds)


def test_a_manifest_nested_a_hundred_thousand_deep_is_no_manifest() -> None:
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json is not a manifest"):
        Manifest.read(b"[" * 100_000, "manifest.json")

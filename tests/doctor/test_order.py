from collections.abc import Callable
from pathlib import Path

import pytest

from ml_assets.doctor.order import order
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import DAY, frame, put
from tests.publications import newest_manifest

ASSET = "shop/orders"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three publications of a day, of which garbage collection removed the first, and one without days."""
    lake = Lake(str(tmp_path / "lake"))
    for n in (1, 2, 3):
        put(lake, frame(n), asset=ASSET, partition=str(DAY))
    put(lake, frame(1), asset="shop/whole")
    ref = lake.find(ASSET, str(DAY), lake.order_record(ASSET, str(DAY), 1).version)
    first = newest_manifest(lake, ref)
    lake.move(str(first), f"{lake.folder_left(ref)}/{first.name}")
    return lake


def found(lake: Lake) -> list[tuple[str, str]]:
    return [(it.state, it.text) for it in order(LakeResource(url=lake.url))]


def record(lake: Lake, number: int) -> Path:
    return Path(lake.path("order", ASSET, str(DAY), f"{number:06d}.json"))


def newest(lake: Lake) -> Path:
    return newest_manifest(lake, lake.find(ASSET, str(DAY)))


def test_an_order_that_is_whole_is_counted(lake: Lake) -> None:
    assert [("ok", "4 publications are numbered without a gap.")] == found(lake)


@pytest.mark.parametrize(
    ("harm", "state", "words"),
    [
        (lambda lake: record(lake, 2).unlink(), "wrong", "missing: order/shop/orders/2013-01-01/000002.json"),
        (lambda lake: newest(lake).unlink(), "wrong", "2013-01-01/000003.json names a version that does not exist"),
        (lambda lake: record(lake, 2).write_text("{}"), "wrong", "2013-01-01/000002.json is not the record"),
        (
            lambda lake: record(lake, 2).write_bytes(record(lake, 3).read_bytes()),
            "wrong",
            "000002.json is the record of order/shop/orders/2013-01-01/000003.json",
        ),
        (
            lambda lake: record(lake, 3).unlink(), "warning",
            "1 versions were stored but not published, because their process ended early: artifacts/shop/orders/",
        ),
    ],
)  # fmt: skip
def test_errors_in_the_order_are_named(lake: Lake, harm: Callable[[Lake], object], state: str, words: str) -> None:
    harm(lake)

    said = found(lake)
    assert [state] == [it[0] for it in said if words in it[1]], said

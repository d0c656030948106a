"""The lake that tests of storage write to: on a folder, and on a pretended S3."""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ml_assets.lake.store import Lake

_numbers = itertools.count()


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Lake]:
    if request.param == "folder":
        yield Lake(str(tmp_path / "lake"))
        return
    bucket = f"lake-{os.getpid()}-{next(_numbers)}"
    yield Lake(f"s3://{bucket}/deep/root", request.getfixturevalue("s3")(bucket))


@pytest.fixture
def folder(tmp_path: Any) -> Lake:
    return Lake(str(tmp_path / "lake"))

"""What tests of provenance share: a lake on a folder."""

import pytest

from ml_assets.lake.store import Lake


@pytest.fixture
def lake(folder: Lake) -> Lake:
    return folder

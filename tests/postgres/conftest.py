"""One PostgreSQL server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.postgres.server import Server, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server that is not shared."""
    with running() as server:
        yield server

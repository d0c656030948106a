from pathlib import Path

import pytest

from tests.postgres import server


def test_without_postgresql_the_tests_are_skipped_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "binaries", lambda: None)

    with pytest.raises(pytest.skip.Exception, match="apt-get install postgresql"), server.running():
        pass

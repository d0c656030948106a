"""A study that several processes share in Postgres, and that its password is shown nowhere."""

from pathlib import Path

import optuna
import pytest

from ml_assets.workers.studies import STUDIES, open_storage
from tests.postgres.server import PASSWORD, Server
from tests.stages.conftest import plan, trained  # noqa: F401 - fixtures of another folder
from tests.stages.searched import watched
from tests.stages.shop import Trained


def test_a_search_in_postgres_outlives_a_lost_worker_and_leaves_no_study_behind(
    postgres: Server,
    trained: Trained,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres.port}/{postgres.database()['db_name']}"
    monkeypatch.setenv(STUDIES, url)
    slow = {"max_rounds": 400, "early_stopping_rounds": 400, "trials": 4}
    found = watched(trained, tmp_path, monkeypatch, lose=True, tuning=slow)

    result, _ = found.run()

    assert [0, 1, 2, 3] == result.trials["trial"].to_list()
    assert 3 == len(found.commands)
    assert "was ended by SIGKILL" in found.warnings[0]
    storage = open_storage(url)
    assert [] == optuna.get_all_study_names(storage)
    storage.engine.dispose()
    shown = " ".join([*found.commands, *found.warnings, *capfd.readouterr()])
    assert PASSWORD not in shown

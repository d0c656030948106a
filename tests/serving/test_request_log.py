"""The request log: what is stored, when it is written, and what is counted instead."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.cli.serve import declared_models
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.errors import LakeError
from ml_assets.lake.objects import Objects
from ml_assets.lake.request_files import FACTS, REQUESTS, LogFacts
from ml_assets.lake.store import Lake
from ml_assets.project import PROJECT, ProjectError
from ml_assets.serving.app import Application
from ml_assets.serving.inputs import Columns
from ml_assets.serving.log_policy import HASH_KEY, LogPolicy, log_policies
from ml_assets.serving.logged_rows import Hashing, LoggedRequest
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.registry import Registry
from ml_assets.serving.request_log import RequestLog
from ml_assets.serving.served_model import ServedModel
from tests.serving.asgi import get, post
from tests.serving.test_protocols import arrow, mlflow_split, open_inference, own, shop_rows, tensors
from tests.serving.test_server import answered

PREDICT = "/v1/models/returns/predict"
ROW = {"shop": "a", "items": 3, "weight kg": 5.0}
KEY = b"a secret of the test"


@contextmanager
def application_with_log(
    lake: Lake, into: Objects, policy: LogPolicy | None = None, *, seconds: float = 60.0, most_rows: int = 1_000
) -> Iterator[Application]:
    """Yield the application, whose log is complete afterwards."""
    metrics = Metrics()
    log = RequestLog(into, {"returns": policy or LogPolicy()}, metrics, seconds, most_rows)
    log.start()
    yield Application(Registry.open(lake, ["returns"]), metrics=metrics, log=log)
    log.close()


def stored(lake: Objects) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(it) for it in sorted(Path(lake.url, REQUESTS, "returns").glob("*/*.parquet"))])


def counted(application: Application) -> dict[str, int]:
    lines = get(application, "/metrics").body.decode().splitlines()
    found = [it for it in lines if it.startswith("ml_assets_logged_rows_total{")]
    return {it.partition('state="')[2].partition('"')[0]: int(it.rpartition(" ")[2]) for it in found}


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_rows_of_all_protocols_are_stored_as_they_were_scored(shop_lake: Lake, empty_lake: Lake) -> None:
    rows = shop_rows(5)
    with application_with_log(shop_lake, empty_lake) as application:
        scores = [protocol(application, rows) for protocol in (own, arrow, mlflow_split, open_inference)]

    found = stored(empty_lake)
    names = ["json", "arrow", "mlflow", "open_inference"]
    assert [name for name in names for _ in range(5)] == found["protocol"].to_list()
    assert [it for one in scores for it in one] == found["score"].to_list()
    assert [*range(5)] * 4 == found["row"].to_list()
    features = found["features"].struct.unnest()
    assert pl.concat([rows] * 4).equals(features.select(rows.columns))
    assert 4 == found["request_id"].n_unique()


def test_a_stored_row_names_its_request_its_version_and_its_time(
    shop_lake: Lake, empty_lake: Lake, served: ServedModel
) -> None:
    begun, trace = datetime.now(UTC), "0af7651916cd43dd8448eb211c80319c"
    with application_with_log(shop_lake, empty_lake) as application:
        body = {"rows": [{**ROW, "items": 3.0}]}
        answer = post(application, PREDICT, body, X_Request_ID="order 7", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        other = post(application, PREDICT, body, X_Request_ID="x" * 129, traceparent="00-nothing-0-0")

    first, second = stored(empty_lake).to_dicts()
    assert ("order 7", "order 7", trace) == (answer.headers["x-request-id"], first["request_id"], first["trace_id"])
    assert (other.headers["x-request-id"], None) == (second["request_id"], second["trace_id"])
    assert (served.version, 1, ROW) == (first["version"], first["entry"], first["features"])
    assert begun <= first["scored_at"] <= datetime.now(UTC)
    [folder] = Path(empty_lake.url, REQUESTS, "returns").iterdir()
    assert str(first["scored_at"].date()) == folder.name


def test_a_file_has_rows_of_one_quarter_of_an_hour_and_states_what_is_left_out(
    empty_lake: Lake, served: ServedModel
) -> None:
    columns = Columns.of_records([ROW])
    scores = served.score(served.inputs.encode_columns(columns))
    log = RequestLog(empty_lake, {"returns": LogPolicy(0.5, Hashing(frozenset({"shop"}), KEY))}, Metrics(), 0.1)
    log.start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("random.random", lambda: 0.0)
        for moment in ("2024-03-31T23:44:59.999+00:00", "2024-03-31T23:45:00+00:00", "2024-03-31T23:59:59.999+00:00"):
            at = datetime.fromisoformat(moment).timestamp()
            log.add(LoggedRequest(served, "json", "1", None, at, columns, scores))
    log.close()

    files = sorted(Path(empty_lake.url, REQUESTS, "returns", "2024-03-31").iterdir())
    rows = [pl.read_parquet(it)["scored_at"].dt.to_string("%H:%M:%S").to_list() for it in files]
    assert [["23:44:59"], ["23:45:00", "23:59:59"]] == rows
    facts = [LogFacts.model_validate_json(pl.read_parquet_metadata(it)[FACTS]) for it in files]
    assert [LogFacts(sample=0.5, hashed=("shop", "order_id"))] * 2 == facts


def test_rows_are_written_after_the_seconds_without_an_end(shop_lake: Lake, empty_lake: Lake) -> None:
    with application_with_log(shop_lake, empty_lake, seconds=0.1) as application:
        post(application, PREDICT, {"rows": [ROW]})
        until(lambda: counted(application) == {"accepted": 1, "written": 1})

        assert 1 == stored(empty_lake).height


def test_rows_beyond_the_memory_are_counted_and_answered(
    shop_lake: Lake, empty_lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    with application_with_log(shop_lake, empty_lake, most_rows=3) as application:
        answers = [post(application, PREDICT, {"rows": [ROW, ROW]}) for _ in range(3)]

        assert [200, 200, 200] == [it.status for it in answers]
        assert {"accepted": 2, "dropped": 4} == counted(application)

    assert 2 == stored(empty_lake).height
    assert ["rows are missing from the request log"] == caplog.messages


class Flaky(Objects):
    """A lake that cannot be written for a while."""

    is_down = True

    def write(self, path: str, write: Callable[..., object]) -> object:  # type: ignore[override]
        if self.is_down:
            raise LakeError("the lake is down")
        return super().write(path, write)


def test_rows_wait_for_a_lake_that_cannot_be_written(
    shop_lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake = Flaky(str(tmp_path))
    caplog.set_level("INFO", logger="ml_assets.serving")
    with application_with_log(shop_lake, lake, seconds=0.1) as application:
        post(application, PREDICT, {"rows": [ROW]})
        until(lambda: bool(caplog.messages))
        lake.is_down = False
        until(lambda: counted(application) == {"accepted": 1, "written": 1})

    assert 1 == stored(lake).height
    assert [
        "the request log cannot be written; it is tried again", "the request log is written again"
    ] == caplog.messages  # fmt: skip


def test_rows_that_cannot_be_written_until_the_end_are_counted(
    shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ml_assets.serving.request_log.LAST_SECONDS", 0.0)
    with application_with_log(shop_lake, Flaky(str(tmp_path))) as application:
        post(application, PREDICT, {"rows": [ROW]})

    assert {"accepted": 1, "dropped": 1} == counted(application)
    assert "rows are missing from the request log" in caplog.messages


def test_a_write_that_hangs_does_not_keep_the_process(
    shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ml_assets.serving.request_log.LAST_SECONDS", 0.3)
    hangs = threading.Event()
    monkeypatch.setattr(Flaky, "write", lambda *_: hangs.wait(60))
    with application_with_log(shop_lake, Flaky(str(tmp_path))) as application:
        post(application, PREDICT, {"rows": [ROW]})
        begun = time.monotonic()
    took = time.monotonic() - begun
    seen = counted(application)
    hangs.set()

    assert took < 5
    assert {"accepted": 1, "dropped": 1} == seen
    assert "rows are missing from the request log" == caplog.messages[-1]


def test_a_model_that_cannot_be_written_does_not_stop_the_log_of_another(
    empty_lake: Lake, served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = Columns.of_records([ROW])
    scores = served.score(served.inputs.encode_columns(columns))
    request = LoggedRequest(served, "json", "1", None, time.time(), columns, scores)
    folder = Path(empty_lake.url, REQUESTS)
    folder.mkdir(parents=True)
    (folder / "blocked").touch()  # a file, so nothing can be written below it
    log = RequestLog(empty_lake, {"blocked": LogPolicy(), "returns": LogPolicy()}, Metrics(), 0.1)

    log.add(replace(request, served=replace(served, name="blocked")))
    log.add(request)
    log.start()
    until(lambda: any(folder.glob("returns/*/*.parquet")))
    monkeypatch.setattr("ml_assets.serving.request_log.LAST_SECONDS", 0.0)
    log.close()

    assert 1 == stored(empty_lake).height


def test_requests_without_rows_and_with_an_error_leave_the_rows_of_others(shop_lake: Lake, empty_lake: Lake) -> None:
    with application_with_log(shop_lake, empty_lake) as application:
        post(application, PREDICT, {"rows": [ROW]})
        for path, body in (("/invocations", {"inputs": {}}), ("/v2/models/returns/infer", {"inputs": []}),
                           (PREDICT, {"rows": []})):  # fmt: skip
            post(application, path, body)
        unknown = {"inputs": tensors(shop_rows(1)), "outputs": [{"name": "nope"}]}
        assert 400 == post(application, "/v2/models/returns/infer", unknown).status

    assert {"accepted": 1, "written": 1} == counted(application)
    [file] = Path(empty_lake.url, REQUESTS, "returns").glob("*/*.parquet")
    assert not file.name.startswith("None")


def test_the_example_of_the_page_reads_versions_with_different_features(shop_lake: Lake, empty_lake: Lake) -> None:
    with application_with_log(shop_lake, empty_lake) as application:
        post(application, PREDICT, {"rows": [ROW]})
    [file] = Path(empty_lake.url, REQUESTS, "returns").glob("*/*.parquet")
    rows = pl.read_parquet(file)
    other = rows.with_columns(features=pl.struct(pl.lit(2).alias("score"), pl.lit("x").alias("shop")))
    other.write_parquet(file.with_name("other.parquet"))
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    code = page.partition("```python\nfrom pathlib import Path\n\nimport polars as pl\n\nfiles")[2].partition("```")[0]

    names: dict[str, object] = {"pl": pl, "Path": Path}
    code = code.replace(".lake/requests/flight_delay", str(file.parents[1])).replace("pl.concat(", "found = pl.concat(")
    exec(f"files{code}", names)  # noqa: S102 - our own page

    found = names["found"]
    assert isinstance(found, pl.DataFrame)
    assert 2 == found.height
    assert {"score", "features.score", "features.items"} <= {*found.columns}


def test_a_share_of_the_requests_is_stored(shop_lake: Lake, empty_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0.2, 0.7, 0.5])
    monkeypatch.setattr("random.random", lambda: next(drawn))
    with application_with_log(shop_lake, empty_lake, LogPolicy(sample=0.5)) as application:
        ids = [post(application, PREDICT, {"rows": [ROW, ROW]}).headers["x-request-id"] for _ in range(3)]

    assert [ids[0]] * 2 == stored(empty_lake)["request_id"].to_list()


@pytest.mark.parametrize("key", [KEY, None])
def test_personal_and_declared_inputs_are_stored_as_keyed_hashes(
    shop_lake: Lake, empty_lake: Lake, served: ServedModel, key: bytes | None
) -> None:
    fields = tuple(
        replace(it, column=replace(it.column, is_pii=it.name == "shop")) for it in served.inputs.fields
    )  # fmt: skip
    rows = [ROW, {**ROW, "items": 4}, {**ROW, "shop": "b", "items": None}]
    with application_with_log(
        shop_lake, empty_lake, LogPolicy(hashing=Hashing(frozenset({"items"}), key))
    ) as application:
        application.registry.slots["returns"].served = replace(served, inputs=replace(served.inputs, fields=fields))
        post(application, PREDICT, {"rows": rows})

    found = stored(empty_lake)["features"].struct.unnest()
    assert [5.0] * 3 == found["weight kg"].to_list()
    shops, items = found["shop"].to_list(), found["items"].to_list()
    if key is None:
        assert [[None] * 3] * 2 == [shops, items]
        return
    assert shops[0] == shops[1] != shops[2]
    assert items[0] != items[1]
    assert items[2] is None
    assert {32} == {len(it) for it in [*shops, *items[:2]]}
    other = Hashing(key=b"another secret of the test").hashed(pl.Series("shop", ["a"]))
    assert shops[0] != other[0]


def test_settings_that_cannot_be_followed_are_reported_before_the_start(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HASH_KEY, raising=False)
    with pytest.raises(DataError, match=r"'item', which is no input of the served version .did you mean 'items'"):
        log_policies([served], {"returns": ServingSettings(hash=("item",))})
    with pytest.raises(DataError, match=f"stores items as keyed hashes, and {HASH_KEY} is not set; .* --no-log"):
        log_policies([served], {"returns": ServingSettings(hash=("items",))})
    monkeypatch.setenv(HASH_KEY, "abc")
    with pytest.raises(DataError, match=f"{HASH_KEY} has 3 bytes; expected a secret of 16 or more"):
        log_policies([served], {})
    monkeypatch.setenv(HASH_KEY, KEY.decode())

    assert {} == log_policies([served], {"returns": ServingSettings(log=False, hash=("items",))})
    expected = LogPolicy(0.5, Hashing(frozenset({"items"}), KEY))
    assert {"returns": expected} == log_policies([served], {"returns": ServingSettings(sample=0.5, hash=("items",))})


def test_the_settings_are_those_of_the_project_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"flight_delay": ServingSettings()} == {it.name: it.serving for it in declared_models()}
    monkeypatch.setenv(PROJECT, str(tmp_path))
    with pytest.raises(ProjectError):
        declared_models()


@pytest.mark.long  # it waits for the bound of the log
def test_a_killed_process_loses_the_rows_of_its_last_seconds_and_no_file(shop_lake: Lake) -> None:
    code = "import sys; from ml_assets.cli.main import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", "returns", "--port", "0"],
        env={**os.environ, "ML_ASSETS_LAKE": shop_lake.url}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"]
        sent: list[tuple[float, int]] = []
        ended = threading.Event()

        def send() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                try:
                    answered(f"{url}/predict", json.dumps({"rows": [{**ROW, "weight kg": number / 10}]}).encode())
                except (OSError, http.client.HTTPException):  # the second one: an answer that ended in the middle
                    return
                sent.append((time.time(), number))

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(14)
        ended.set()
        process.kill()
        killed = time.time()
        sender.join()

    found = stored(shop_lake)["features"].struct.field("weight kg").to_list()
    kept = {round(it * 10) for it in found}
    lost = [at for at, number in sent if number not in kept]
    assert len(kept) > len(sent) / 3
    assert all(killed - at < 7 for at in lost)

"""The requests that the service has answered: read from its log, measured like predictions, and scored again."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.artifacts.monitoring import DailyDrift, DriftSummary
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import DataError
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.manifest import FILES
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import booster_of, predict
from ml_assets.serving.inputs import Columns
from ml_assets.serving.log_policy import LogPolicy
from ml_assets.serving.logged_rows import Hashing, JoinedRows, LoggedRequest
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.request_log import RequestLog
from ml_assets.serving.served_model import ServedModel, load_served_model
from ml_assets.stages.drift import served_drift
from ml_assets.stages.performance import served_performance
from ml_assets.stages.requests import requests
from tests.notebook.conftest import shop_lake  # noqa: F401 - a fixture
from tests.stages.shop import context_of, feature_rows, label_rows, plan_of
from tests.stages.test_hours_as_days import by_hour

LAST = date(2024, 2, 19)
EVE = LAST - timedelta(days=1)
PLAN = plan_of(serving={})


class Service(NamedTuple):
    """A lake with a champion, and the champion as the service has loaded it."""

    lake: LakeResource
    served: ServedModel

    def answer(
        self, rows: pl.DataFrame, *, at: date = LAST, policy: LogPolicy | None = None, minutes: int = 600,
        has_key: bool = False, overridden: Sequence[str] | None = None, beside: ServedModel | None = None,
        champion: str = "", **changes: float,
    ) -> list[float]:  # fmt: skip
        """Score rows, one request each, and log them with changes to the scores; return what was answered.

        With `overridden`, the rows are logged as joined with the features of their days.
        """
        served, lake = self.served, self.lake.connect()
        log = RequestLog(lake, {"returns": policy or LogPolicy()}, Metrics(), 0.01)
        names = [*(feature.name for feature in served.model.spec.features), *(["order_id"] if has_key else [])]
        scores = []
        for number, row in enumerate(rows.iter_rows(named=True)):
            columns = Columns.of_records([{name: row[name] for name in names}])
            found = served.score(served.inputs.encode_columns(columns))
            scores += found.columns["score"]
            logged = replace(found, columns={**found.columns, **{name: [it] for name, it in changes.items()}})
            moment = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(minutes=minutes, seconds=number)
            request = LoggedRequest(
                served, "json", f"r{number}", None, moment.timestamp(), columns, logged, None, beside, champion
            )
            if overridden is not None:
                version = lake.find("returns/features", str(row["day"])).version
                key = pl.DataFrame({"order_id": [row["order_id"]]})
                joined = JoinedRows(key, [row["prediction_at"]], [60.0], [version], [overridden])
                request = replace(request, joined=joined)
            log.add(request)
        log.start()
        log.close()
        return scores

    def read(self, *days: date, plan: Any = PLAN) -> tuple[Mapping[str, pl.DataFrame], dg.AssetCheckResult]:
        """Materialize the requests of days, and store them; return them with the check of their parity."""
        output, check = requests(plan)(context_of(days[0], days[-1]), ml_assets_lake=self.lake)
        notes = self.lake.ledger().notes
        for day, rows in output.value.items():
            files = {FILES: {day: notes[FILES][day]}}  # type: ignore[index]
            self.lake.connect().put_each("returns/requests", {day: (rows, Origin(parameters=files))})
        return output.value, check

    def drift(self, rows: Mapping[str, pl.DataFrame], *days: date) -> Mapping[str, DailyDrift]:
        output, _ = served_drift(PLAN)(context_of(days[0], days[-1]), {**rows}, ml_assets_lake=self.lake)
        found: Mapping[str, DailyDrift] = output.value
        return found


@pytest.fixture
def service(shop_lake: Lake, lake: LakeResource) -> Service:  # noqa: F811 - the fixture
    shutil.copytree(shop_lake.url, lake.connect().url, dirs_exist_ok=True)
    return Service(lake, load_served_model(lake.connect(), "returns", public=frozenset({"order_id"})))


def fewer_trees(model: Model) -> Model:
    """Return a model with half of its trees."""
    booster = booster_of(model.text)
    return replace(model, booster=booster.model_to_string(num_iteration=max(1, booster.num_trees() // 2)))


def orders(*days: date) -> pl.DataFrame:
    return feature_rows().filter(pl.col("day").is_in(days))


def summary_of(found: Mapping[str, DailyDrift], day: date = LAST) -> DriftSummary:
    [summary] = found[str(day)].summaries.versions
    return summary


def findings(check: dg.AssetCheckResult) -> Sequence[Mapping[str, Any]]:
    table = check.metadata["findings"]
    assert isinstance(table, dg.TableMetadataValue)
    return [record.data for record in table.records]


# ---------------------------------------------------------------- the rows


def test_requests_have_the_rows_of_their_day_with_files_and_digests(service: Service) -> None:
    answered = service.answer(orders(LAST).head(3))
    service.answer(orders(EVE).head(2), at=EVE)

    found, check = service.read(EVE, LAST)

    rows = found[str(LAST)]
    assert answered == rows["score"].to_list()
    assert (2, 3) == (found[str(EVE)].height, rows.height)
    assert [service.served.version] == rows["model_version"].unique().to_list()
    assert orders(LAST).head(3)["items"].to_list() == rows["features"].struct.field("items").to_list()
    [file] = Path(service.lake.connect().url, "requests", "returns", str(LAST)).iterdir()
    [facts] = service.lake.ledger().notes[FILES][str(LAST)]  # type: ignore[index]
    assert {"name": f"{LAST}/{file.name}", "bytes": file.stat().st_size} == {
        name: facts[name] for name in ("name", "bytes")
    }
    assert 32 == len(facts["digest"])
    assert check.passed, check.description


def test_the_content_does_not_depend_on_how_rows_came_into_files(service: Service, tmp_path: Path) -> None:
    service.answer(orders(LAST).head(4))
    before, _ = service.read(LAST)
    folder = Path(service.lake.connect().url, "requests", "returns", str(LAST))
    [file] = folder.iterdir()
    metadata, rows = pl.read_parquet_metadata(file), pl.read_parquet(file)
    facts = {"ml_assets_log": metadata["ml_assets_log"]}
    second = file.name.replace("-000001.", "-000002.")
    rows.tail(3).write_parquet(file, metadata=facts)
    rows.head(1).write_parquet(folder / second, metadata=facts)

    after = service.read(LAST)[0]

    assert before[str(LAST)].equals(after[str(LAST)])


def test_versions_with_other_features_are_stored_together_and_each_is_scored_again_by_its_own(service: Service) -> None:
    lake, spec = service.lake.connect(), service.served.model.spec
    service.answer(orders(LAST).head(2))
    file = next(Path(lake.url, "requests", "returns", str(LAST)).iterdir())
    metadata, rows = pl.read_parquet_metadata(file), pl.read_parquet(file)
    other = rows.with_columns(
        version=pl.lit("f" * 32), features=pl.struct(pl.lit(2).alias("shop"), pl.lit(1).alias("x"))
    )
    other.write_parquet(file.with_name(file.name.replace("000001", "000002")), metadata={
        "ml_assets_log": metadata["ml_assets_log"],
    })  # fmt: skip

    found, check = service.read(LAST)

    stored = found[str(LAST)]["features"].struct
    assert {*[it.name for it in spec.features], "x"} == {*stored.fields}
    assert {*orders(LAST).head(2)["shop"], "2"} == {*stored.field("shop")}
    mixed = dict(found[str(LAST)].select("model_version", "hashed").iter_rows())
    assert {service.served.version: ["shop"], "f" * 32: ["shop"]} == mixed
    assert {service.served.version, "f" * 32} == {it["model_version"] for it in findings(check)}
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN


def test_a_day_without_files_has_no_rows_and_its_parity_is_not_judged(service: Service) -> None:
    found, check = service.read(LAST)

    assert 0 == found[str(LAST)].height
    assert (False, "there are no requests.") == (check.passed, check.description)
    assert [] == [*service.drift(found, LAST)[str(LAST)].summaries.versions]


def test_a_damaged_file_is_named(service: Service) -> None:
    service.answer(orders(LAST).head(1))
    [file] = Path(service.lake.connect().url, "requests", "returns", str(LAST)).iterdir()
    file.write_bytes(b"PAR1 nothing")

    with pytest.raises(CorruptArtifactError, match=file.name):
        service.read(LAST)


@pytest.mark.parametrize(
    "changed", [pl.col("score").cast(pl.String), pl.lit(None).alias("is_answer")], ids=["another type", "a lost column"]
)
def test_a_file_with_other_columns_is_named_with_them(service: Service, changed: pl.Expr) -> None:
    service.answer(orders(LAST).head(1))
    [file] = Path(service.lake.connect().url, "requests", "returns", str(LAST)).iterdir()
    facts = {"ml_assets_log": pl.read_parquet_metadata(file)["ml_assets_log"]}
    pl.read_parquet(file).with_columns(changed).write_parquet(file, metadata=facts)

    with pytest.raises(CorruptArtifactError, match=rf"{file.name} is not a file .*{changed.meta.output_name()}"):
        service.read(LAST)


def test_a_day_whose_files_are_gone_is_not_built_again(service: Service) -> None:
    service.answer(orders(LAST).head(1))
    service.read(LAST)
    shutil.rmtree(Path(service.lake.connect().url, "requests"))

    with pytest.raises(DataError, match=r"of the request log, 1 file of .* cannot be found"):
        service.read(LAST)


# ---------------------------------------------------------------- parity


def test_a_score_that_the_batch_path_does_not_give_is_an_error_that_names_the_request(service: Service) -> None:
    service.answer(orders(LAST).head(3))
    service.answer(orders(LAST).head(1), minutes=700, score=0.5)

    _, check = service.read(LAST)

    assert (False, dg.AssetCheckSeverity.ERROR) == (check.passed, check.severity)
    [finding] = findings(check)
    assert (str(LAST), "score", 1) == (finding["partition"], finding["column"], finding["rows"])
    assert str(finding["finding"]).startswith("1 of 4 rows differ, by up to ")
    assert str(finding["finding"]).endswith(": request r0, row 0")


def test_a_logged_score_that_is_no_number_hides_no_other_difference(service: Service) -> None:
    service.answer(orders(LAST).head(1), score=float("nan"))
    service.answer(orders(LAST)[1:2], minutes=700, score=0.5)

    [finding] = findings(service.read(LAST)[1])

    assert ("score", 2) == (finding["column"], finding["rows"])


def test_a_version_whose_rows_cannot_be_compared_is_named_and_others_are_compared(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = service.lake.connect().put("returns/model", None, fewer_trees(service.served.model), Origin()).version
    other = Service(service.lake, replace(service.served, version=version))
    service.answer(orders(LAST).head(1), score=0.5)
    other.answer(orders(LAST)[1:2], minutes=700)

    def scored(model: Model, rows: pl.DataFrame, **given: Any) -> pl.DataFrame:
        if model.text != service.served.model.text:
            raise pl.exceptions.InvalidOperationError("conversion failed")
        return predict(model, rows, **given)

    monkeypatch.setattr("ml_assets.logic.monitoring.parity.predict", scored)

    found = {it["finding"] for it in findings(service.read(LAST)[1])}

    assert "1 row is not compared: conversion failed" in found
    assert any(str(it).startswith("1 of 1 rows differ") for it in found)


def test_rows_with_hashed_features_are_not_scored_again_and_a_warning_says_so(service: Service) -> None:
    service.answer(
        orders(LAST).head(2), policy=LogPolicy(hashing=Hashing(frozenset({"shop"}), b"a secret of the test"))
    )

    _, check = service.read(LAST)

    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    [finding] = findings(check)
    assert "2 rows are not compared: shop is not stored as scored, but hashed" == finding["finding"]


def test_rows_by_key_have_the_features_that_their_artifact_has_except_overridden_ones(service: Service) -> None:
    asked = orders(LAST).head(4)
    service.answer(asked.head(2), has_key=True, overridden=[])
    service.answer(asked[2:3].with_columns(items=pl.col("items") + 1), minutes=700, has_key=True, overridden=["items"])

    _, check = service.read(LAST)

    assert check.passed, check.description
    inputs = {it.ref for it in service.lake.ledger().inputs_of(str(LAST))}
    assert service.lake.connect().find("returns/features", str(LAST)) in inputs

    service.answer(asked[3:4].with_columns(items=pl.col("items") + 1), minutes=800, has_key=True, overridden=[])
    _, check = service.read(LAST)

    assert (False, dg.AssetCheckSeverity.ERROR) == (check.passed, check.severity)
    [finding] = findings(check)
    assert ("items", 1, "1 of 4 rows differ: request r0, row 0") == (
        finding["column"], finding["rows"], finding["finding"],
    )  # fmt: skip


def test_rows_by_key_of_other_keys_and_of_removed_features_are_named(service: Service) -> None:
    service.answer(orders(LAST).head(1).with_columns(order_id=pl.lit("secret")), has_key=True, overridden=[])
    service.answer(orders(EVE).head(1), minutes=700, has_key=True, overridden=[])
    lake = service.lake.connect()
    shutil.rmtree(lake.directory(lake.find("returns/features", str(EVE))))

    _, check = service.read(LAST)

    assert {
        "key": "1 of 1 rows differ: request r0, row 0",
        "features": "1 row is not compared: their features are no longer in the lake",
    } == {it["column"]: it["finding"] for it in findings(check)}
    assert "secret" not in str(check)


# ---------------------------------------------------------------- drift


def test_requests_are_compared_with_the_reference_of_the_version_that_scored_them(service: Service) -> None:
    service.answer(orders(EVE), at=EVE)
    service.answer(orders(LAST).with_columns(pl.col("items") + 50))
    found, _ = service.read(EVE, LAST)

    drifted = service.drift(found, EVE, LAST)

    assert ("within the limits", 40) == (summary_of(drifted, EVE).state, summary_of(drifted, EVE).rows)
    assert "over the limits" == summary_of(drifted).state
    assert "items" in summary_of(drifted).drifted_features
    assert [service.served.version] == [it.ref.version for it in service.lake.ledger().inputs_of(str(LAST))]


def test_by_the_hour_requests_belong_to_their_hour_and_the_day_is_reported_with_its_last_hour(service: Service) -> None:
    service.answer(orders(LAST).head(2), minutes=22 * 60)
    service.answer(orders(LAST).head(3), minutes=23 * 60 + 59)
    plan, hours = by_hour(), [f"{LAST}T22", f"{LAST}T23"]
    context: Any = context_of(*hours)  # type: ignore[arg-type]

    output, check = requests(plan)(context, ml_assets_lake=service.lake)
    found = output.value
    context = context_of(hours[1])  # type: ignore[arg-type]
    output, _ = served_drift(plan)(context, found, ml_assets_lake=service.lake)

    assert ({hours[0]: 2, hours[1]: 3}, True) == ({key: rows.height for key, rows in found.items()}, check.passed)
    summaries = output.value[hours[1]].summaries
    assert ([5], 5) == ([it.rows for it in summaries.versions], summaries.whole_day[0].rows)


def test_too_few_requests_are_not_judged(service: Service) -> None:
    service.answer(orders(LAST).head(3))

    drifted = service.drift(service.read(LAST)[0], LAST)

    assert ("not judged", 3) == (summary_of(drifted).state, summary_of(drifted).rows)


def test_hashed_features_are_left_out_of_the_drift_and_a_sample_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    hashing = Hashing(frozenset({"items"}), b"a secret of the test")
    service.answer(orders(LAST).with_columns(pl.col("items") + 50), policy=LogPolicy(0.25, hashing))

    drifted = service.drift(service.read(LAST)[0], LAST)

    assert {"score", "shop", "weight kg"} == {*drifted[str(LAST)].table["feature"]}
    note = "The log has a sample of 0.25 of the requests. Not compared, because the log has hashes: items."
    assert summary_of(drifted).sentence.endswith(note)


def test_the_drift_of_a_day_does_not_depend_on_the_other_days_of_the_run(service: Service) -> None:
    hashing = Hashing(frozenset({"items"}), b"a secret of the test")
    service.answer(orders(EVE), at=EVE)
    service.answer(orders(LAST), policy=LogPolicy(hashing=hashing))
    rows, _ = service.read(EVE, LAST)

    alone, together = service.drift({str(EVE): rows[str(EVE)]}, EVE), service.drift(rows, EVE, LAST)

    assert "items" in {*alone[str(EVE)].table["feature"]}
    assert alone[str(EVE)].table.equals(together[str(EVE)].table)
    assert summary_of(alone, EVE).sentence == summary_of(together, EVE).sentence


# ---------------------------------------------------------------- performance


def test_requests_without_a_key_are_not_measured_but_counted(service: Service) -> None:
    service.answer(orders(LAST).head(3))
    found, _ = service.read(LAST)

    measured: Any = served_performance(PLAN)(context_of(LAST), {**found}, label_rows(), ml_assets_lake=service.lake)

    [summary] = measured[str(LAST)].summaries.versions
    assert (service.served.version, 3, 0, {}) == (
        summary.model_version, summary.without_key, summary.predictions, summary.measured,
    )  # fmt: skip
    assert summary.sentence.endswith("3 requests without a key are not measured.")


def test_the_last_request_of_each_key_is_measured_on_its_label(service: Service) -> None:
    rows, labels = orders(LAST), label_rows()
    service.answer(rows.with_columns(items=pl.lit(0)), minutes=600, has_key=True)
    scores = service.answer(rows, minutes=660, has_key=True)
    service.answer(rows.head(2), minutes=720)
    found, _ = service.read(LAST)

    measured: Any = served_performance(PLAN)(context_of(LAST), {**found}, labels, ml_assets_lake=service.lake)

    [summary] = measured[str(LAST)].summaries.versions
    truth = rows.join(labels, on="order_id", maintain_order="left")["is_returned"].to_list()
    assert (40, 40, 40, 2) == (summary.predictions, summary.labelled, summary.repeated_keys, summary.without_key)
    pairs = [(a > b) + (a == b) / 2 for a, is_a in zip(scores, truth, strict=True) if is_a
             for b, is_b in zip(scores, truth, strict=True) if not is_b]  # fmt: skip
    assert summary.metrics["roc_auc"] == pytest.approx(sum(pairs) / len(pairs))
    interval = summary.measured["roc_auc"]
    assert interval.low is not None
    assert interval.low < interval.value


def test_a_challenger_online_is_measured_beside_the_champion_on_the_rows_that_both_scored(service: Service) -> None:
    rows, labels, other = orders(LAST), label_rows(), fewer_trees(service.served.model)
    version = service.lake.connect().put("returns/model", None, other, Origin()).version
    beside = replace(service.served, version=version, model=other)
    service.answer(rows.head(25), has_key=True, beside=beside)
    canary = Service(service.lake, beside)
    canary.answer(rows[25:30], minutes=700, has_key=True, beside=service.served, champion=service.served.version)
    service.answer(rows[30:40], minutes=800, has_key=True)
    found, check = service.read(LAST)

    measured: Any = served_performance(PLAN)(context_of(LAST), {**found}, labels, ml_assets_lake=service.lake)

    assert check.passed, check.description
    by_version = {it.model_version: it for it in measured[str(LAST)].summaries.versions}
    champion, challenger = by_version[service.served.version], by_version[version]
    assert (40, 30) == (champion.predictions, challenger.predictions)
    assert champion.previous_champion is None
    assert challenger.previous_champion is not None
    assert service.served.version == challenger.previous_champion.version
    truth = rows.join(labels, on="order_id", maintain_order="left")["is_returned"].to_numpy()[:30]
    for model, auc in (
        (other, challenger.metrics["roc_auc"]), (service.served.model, challenger.previous_champion.metrics["roc_auc"]),
    ):  # fmt: skip
        scores = predict(model, rows.head(30), threads=1)["score"].to_numpy()
        gaps = scores[truth][:, None] - scores[~truth][None, :]
        assert auc == pytest.approx(float(((gaps > 0) + (gaps == 0) / 2).mean()))
    assert {champion.model_version: 35, version: 5} == {
        it.model_version: it.rows for it in service.drift(found, LAST)[str(LAST)].summaries.versions
    }


def test_keys_of_files_without_hashes_are_measured_beside_files_with_hashes(service: Service) -> None:
    hashing = Hashing(frozenset({"order_id"}), b"a secret of the test")
    service.answer(orders(LAST).head(2), has_key=True)
    service.answer(orders(LAST).tail(2), has_key=True, minutes=900, policy=LogPolicy(hashing=hashing))
    found, _ = service.read(LAST)

    measured: Any = served_performance(PLAN)(context_of(LAST), {**found}, label_rows(), ml_assets_lake=service.lake)

    [summary] = measured[str(LAST)].summaries.versions
    assert (2, 2) == (summary.predictions, summary.without_key)


def test_rows_whose_key_is_a_hash_are_not_measured(service: Service) -> None:
    hashing = Hashing(frozenset({"order_id"}), b"a secret of the test")
    service.answer(orders(LAST).head(3), has_key=True, policy=LogPolicy(hashing=hashing))
    found, check = service.read(LAST)

    measured: Any = served_performance(PLAN)(context_of(LAST), {**found}, label_rows(), ml_assets_lake=service.lake)

    [summary] = measured[str(LAST)].summaries.versions
    assert (0, 3) == (summary.predictions, summary.without_key)
    assert check.passed, check.description

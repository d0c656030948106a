"""What a ledger records, and what it writes into the origin of a step's outputs."""

import polars as pl
import pytest

from ml_assets.lake.ledger import Input, Step, StepLedger
from ml_assets.lake.store import Lake
from tests.builders import frame, put

ASSET = "shop/orders"


@pytest.fixture
def lake(folder: Lake) -> Lake:
    return folder


def test_what_is_read_through_a_ledger_is_an_input_once_and_what_is_read_from_the_lake_is_not(lake: Lake) -> None:
    second, first, other = (put(lake, frame(n), partition=f"2013-01-0{n}").ref for n in (2, 1, 3))
    ledger = StepLedger(lake)
    ledger.get(second, pl.DataFrame)
    ledger.scan([second, first])
    ledger.lake.get(other, pl.DataFrame)

    assert (first, second) == ledger.refs
    assert {f"{ASSET}/2013-01-02": second.version, f"{ASSET}/2013-01-01": first.version} == ledger.versions()
    assert ["2013-01-02", "2013-01-01"] == ledger.days_of(ASSET)


def test_the_version_of_an_input_is_the_one_read_last(lake: Lake) -> None:
    old, new = (put(lake, frame(n)).ref for n in (1, 2))
    ledger = StepLedger(lake)
    ledger.get_each([old, new, old], pl.DataFrame)

    assert {ASSET: old.version} == ledger.versions()


def test_an_input_of_one_partition_belongs_to_that_partition_alone(lake: Lake) -> None:
    made = Input.of(put(lake, frame(1)))
    ledger = StepLedger(lake)
    ledger.use([made], partition="2013-01-02")

    assert ((made,), (), ()) == (ledger.inputs_of("2013-01-02"), ledger.inputs_of("2013-01-03"), ledger.inputs)


def test_an_origin_names_the_attempt_and_the_publications_that_were_read(lake: Lake) -> None:
    put(lake, frame(1))
    read = put(lake, frame(2))
    ledger = StepLedger(lake, Step("run", "sums", 1))
    ledger.get(read.ref, pl.DataFrame)

    made = lake.put("shop/sums", None, frame(2), ledger.origin(ledger.inputs, parameters={"limit": 3}))

    assert [(read.ref, 2)] == made.numbered_inputs
    assert ("run", "sums", 1, {"limit": 3}) == (made.run_id, made.step, made.retry_number, made.parameters)


def test_the_artifacts_of_the_own_run_and_of_those_it_continues_are_current(lake: Lake) -> None:
    own, earlier, newest = (put(lake, frame(n), run_id=run).ref for n, run in ((1, "own"), (2, "failed"), (3, "other")))

    assert {"": own} == StepLedger(lake, runs=["own", "failed"]).newest(ASSET)
    assert {"": earlier} == StepLedger(lake, runs=["new", "failed"]).newest(ASSET)
    assert {"": newest} == StepLedger(lake).newest(ASSET)


def test_facts_and_missing_days_of_several_notes_are_joined(lake: Lake) -> None:
    ledger = StepLedger(lake)
    ledger.note(source="abc")
    ledger.note(champion=None)
    ledger.note_missing({"a": ("2013-01-02",)})
    ledger.note_missing({"a": ("2013-01-01",), "b": ("2013-01-01",)})

    assert {"source": "abc", "champion": None} == ledger.notes
    assert {"a": ("2013-01-01", "2013-01-02"), "b": ("2013-01-01",)} == ledger.missing_days

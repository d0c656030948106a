"""What garbage collection keeps and why, and that it does not disturb concurrent writers."""

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.steps import StepRecord, store_step
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.mark import Marked, Policy
from ml_assets.provenance.gc.sweep import Removed, collect, look
from ml_assets.provenance.lineage import Key, key_of
from tests.builders import files_of, frame, promotion, put
from tests.publications import newest_manifest

NOW = datetime.now(tz=UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def made(lake: Lake, asset: str, n: int, days: float, *inputs: ArtifactRef, **origin: Any) -> ArtifactRef:
    """Put a frame of one number, as it would have been some days ago."""
    partition = origin.pop("partition", None)
    manifest = put(lake, frame(n), asset=asset, partition=partition, inputs=inputs, **origin)
    older = manifest.model_copy(update={"created_at": ago(days)})
    folder = Path(lake.directory(manifest.ref))
    (path,) = (it for it in folder.glob("manifest*.json") if Manifest.read(it.read_bytes(), str(it)) == manifest)
    path.write_bytes(older.text())
    return manifest.ref


def trained(lake: Lake, n: int, days: float) -> dict[str, ArtifactRef]:
    """Put a model with what it was made from, and its evaluation."""
    raw = made(lake, "raw/flights", n, days, partition="2013-01-01")
    rows = made(lake, "flight_delay/training_set", n, days, raw)
    model = made(lake, "flight_delay/model", n, days, rows)
    evaluation = made(lake, "flight_delay/evaluation", n, days, rows, model)
    return {"raw": raw, "training_set": rows, "model": model, "evaluation": evaluation}


def decide(lake: Lake, number: int, days: float, refs: Mapping[str, ArtifactRef], **changes: Any) -> None:
    """Promote a model, or what `changes` say."""
    version = refs["model"].version
    decided = {"evaluation_version": refs["evaluation"].version, "decided_at": ago(days), "challenger": version}
    entry = promotion(number, champion=version).model_copy(update={**decided, **changes})
    PromotionLog(lake, "flight_delay").append(entry, number=number)


def began(lake: Lake, days: float = 0, **fields: Any) -> None:
    """Record a step that began some days ago."""
    step = {"run_id": "new", "step": "x", "retry_number": 0, "assets": ("y",), "started_at": ago(days)}
    store_step(lake, StepRecord.model_validate({**step, **fields}))


def judged(lake: Lake, *, days: int = 90, now: datetime = NOW, forget: bool = False) -> Marked:
    return look(lake, Policy(now, days, forget))


def gone(lake: Lake, **policy: Any) -> set[Key]:
    return {version.key for version in judged(lake, **policy).removed}


def collected(lake: Lake, *, days: int = 90, now: datetime = NOW) -> Removed:
    return collect(lake, Policy(now, days), lambda _: None)[1]


def keys(*refs: ArtifactRef) -> set[Key]:
    return {key_of(ref) for ref in refs}


def test_current_artifacts_are_kept_with_their_lineage(lake: Lake) -> None:
    old, new = trained(lake, 1, 400), trained(lake, 2, 300)

    assert keys(*old.values()) == gone(lake)
    assert dict.fromkeys(keys(*new.values()), "current") == {k: h.root for k, h in judged(lake).kept.items()}


def test_artifacts_that_were_current_within_the_window_are_kept(lake: Lake) -> None:
    first, second = made(lake, "raw/flights", 1, 400), made(lake, "raw/flights", 2, 100)
    made(lake, "raw/flights", 3, 50)

    assert keys(first) == gone(lake)
    assert keys(first, second) == gone(lake, days=40)
    assert set() == gone(lake, days=101)


def test_each_partition_has_its_current_artifact(lake: Lake) -> None:
    days = [made(lake, "raw/flights", n, 300, partition=f"2013-01-0{n}") for n in (1, 2)]
    newer = made(lake, "raw/flights", 3, 200, partition="2013-01-01")

    assert keys(days[0]) == gone(lake)
    assert keys(days[1], newer) == judged(lake).kept.keys()


def test_the_age_of_a_version_counts_from_its_last_materialization(lake: Lake) -> None:
    again = made(lake, "raw/flights", 1, 400)
    middle = made(lake, "raw/flights", 2, 300)
    assert again == made(lake, "raw/flights", 1, 200)

    assert keys(middle) == gone(lake)


@pytest.mark.parametrize(("first", "second", "goes"), [(-365, 300, False), (400, 900, True)])
def test_the_last_published_version_is_current_even_if_a_clock_was_wrong(
    lake: Lake, first: float, second: float, *, goes: bool
) -> None:
    before, last = made(lake, "raw/flights", 1, first), made(lake, "raw/flights", 2, second)

    assert (keys(before) if goes else set()) == gone(lake)
    assert "current" == judged(lake).kept[key_of(last)].root


def test_unpublished_recent_artifacts_are_kept(lake: Lake) -> None:
    made(lake, "raw/flights", 1, 400)
    waits = made(lake, "raw/flights", 2, 300)
    lake.remove(lake.path("order", "raw/flights", "000002.json"))

    assert set() == gone(lake)
    assert "current" == judged(lake).kept[key_of(waits)].root


def test_an_artifact_that_was_materialized_from_different_inputs_keeps_all_of_them(lake: Lake) -> None:
    first, second = made(lake, "raw/a", 1, 400), made(lake, "raw/a", 2, 300)
    made(lake, "raw/a", 3, 200)
    made(lake, "tables/a", 9, 390, first)
    made(lake, "tables/a", 9, 290, second)

    assert set() == gone(lake)


def test_a_champion_of_any_age_is_kept_with_its_lineage_and_named_by_its_entry(lake: Lake) -> None:
    served, newer = trained(lake, 1, 900), trained(lake, 2, 800)
    decide(lake, 1, 899, served)
    decide(lake, 2, 799, newer)

    judgement = judged(lake)
    assert [] == judgement.removed
    root = f"champion {served['model'].version[:12]} of flight_delay, {ago(899):%Y-%m-%d} (entry 1)"
    assert root == judgement.kept[key_of(served["raw"])].root
    assert [served["raw"], served["training_set"], served["model"]] == [
        ArtifactRef(asset=a, partition=p or None, version=v) for a, p, v in judgement.path_to(key_of(served["raw"]))
    ]
    assert judgement.kept[key_of(newer["model"])].root.endswith("(entry 2), serving")


def test_champions_before_the_cutoff_are_kept_with_their_evaluations_only(lake: Lake) -> None:
    served, newer = trained(lake, 1, 900), trained(lake, 2, 800)
    decide(lake, 1, 899, served)
    decide(lake, 2, 200, newer)
    scores = made(lake, "flight_delay/predictions", 5, 850, served["model"], partition="2013-01-09")

    assert keys(served["raw"], served["training_set"]) == gone(lake, forget=True)
    assert set() == gone(lake, forget=True, days=201)
    kept = judged(lake, forget=True).kept
    assert kept[key_of(served["model"])].is_alone
    assert not kept[key_of(scores)].is_alone


def test_the_current_champion_is_never_forgotten(lake: Lake) -> None:
    served, newer = trained(lake, 1, 900), trained(lake, 2, 800)
    decide(lake, 1, 899, served)
    decide(lake, 2, 700, newer, action="reject", champion=served["model"].version)

    assert set() == gone(lake, forget=True)


def test_the_evidence_of_a_challenger_that_was_rejected_long_ago_is_kept(lake: Lake) -> None:
    served, refused, _, newest = (trained(lake, n, ago) for n, ago in ((1, 900), (2, 200), (9, 120), (3, 50)))
    champion = served["model"].version
    decide(lake, 1, 899, served)
    decide(lake, 2, 199, refused, action="reject", champion=champion)
    decide(lake, 3, 49, newest, action="reject", champion=champion)

    assert keys(refused["raw"], refused["training_set"], refused["model"]) == gone(lake)
    assert set() == gone(lake, days=300)


def test_of_pending_challengers_only_the_newest_is_kept(lake: Lake) -> None:
    served, before, newest = trained(lake, 1, 900), trained(lake, 2, 200), trained(lake, 3, 150)
    champion = served["model"].version
    decide(lake, 1, 899, served)
    decide(lake, 2, 199, before, action="request_approval", champion=champion)
    decide(lake, 3, 149, newest, action="request_approval", champion=champion)

    assert keys(before["raw"], before["training_set"], before["model"]) == gone(lake)


def test_a_version_that_a_person_rolled_back_to_is_kept(lake: Lake) -> None:
    served = [trained(lake, n, 900 - n) for n in (1, 2, 3)]
    for number, (n, action) in enumerate([(0, "promote"), (1, "promote"), (0, "rollback"), (2, "promote")], start=1):
        decide(lake, number, 890 - number, served[n], action=action)

    assert set() == gone(lake)
    forgotten = {key for refs in served[:2] for key in keys(refs["raw"], refs["training_set"])}
    assert forgotten == gone(lake, forget=True)


def test_released_rows_are_kept_forever_with_the_rows_they_came_from(lake: Lake) -> None:
    aside = made(lake, "raw/orders__quarantine", 1, 900, partition="2013-01-01")
    made(lake, "raw/orders__quarantine", 2, 800, partition="2013-01-01")
    first = made(lake, "raw/orders__released", 1, 890, aside, partition="2013-01-01")
    made(lake, "raw/orders__released", 2, 790, partition="2013-01-01")

    assert set() == gone(lake)
    assert "released by a person" == judged(lake).kept[key_of(first)].root


@pytest.mark.parametrize(("published", "stays"), [(None, True), (950, True), (800, False), (30, True)])
def test_a_rejected_day_is_kept_until_it_is_published_and_the_window_is_over(
    lake: Lake, published: float | None, *, stays: bool
) -> None:
    before = published is not None and published > 900
    refused_as = {"partition": "2013-01-01", "parameters": {"number_before": int(before)}}
    if before:
        made(lake, "raw/orders", 2, published, partition="2013-01-01")
    refused = made(lake, "raw/orders__rejected", 1, 900, **refused_as)
    if published is not None and not before:
        made(lake, "raw/orders", 2, published, partition="2013-01-01")

    assert (set() if stays else keys(refused)) == gone(lake)


def test_all_outputs_and_inputs_of_a_recent_run_are_kept(lake: Lake) -> None:
    read, long_ago = made(lake, "raw/a", 1, 400), made(lake, "raw/b", 1, 400, run_id="still-going")
    for asset in ("raw/a", "raw/b"):
        made(lake, asset, 2, 300)
    assert keys(read, long_ago) == gone(lake)

    began(lake, 0.5, run_id="still-going", inputs=(read,))

    assert set() == gone(lake, days=0)
    assert keys(read, long_ago) == gone(lake, now=NOW + timedelta(days=2), days=0)
    assert f"run still-go of {ago(0.5):%Y-%m-%d}" == judged(lake).kept[key_of(read)].root


def test_the_inputs_of_a_resumed_run_are_kept(lake: Lake) -> None:
    parent = made(lake, "raw/a", 1, 400, run_id="failed")
    made(lake, "raw/a", 2, 300)
    began(lake, 0.1, continues=("failed",))

    assert set() == gone(lake, days=0)
    assert keys(parent) == gone(lake, days=0, now=NOW + timedelta(days=2))


def test_artifacts_younger_than_an_hour_never_count_as_old(lake: Lake) -> None:
    first = made(lake, "raw/a", 1, 50 / 1440)
    made(lake, "raw/a", 2, 40 / 1440)

    assert set() == gone(lake, days=0)
    assert keys(first) == gone(lake, days=0, now=NOW + timedelta(minutes=30))


def test_an_unreadable_object_is_named_and_nothing_is_removed(lake: Lake) -> None:
    old, _ = made(lake, "raw/a", 1, 400), made(lake, "raw/a", 2, 300)
    manifest = newest_manifest(lake, old)
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows": 1', b'"rows": 2'))
    before = files_of(lake)

    with pytest.raises(
        CorruptArtifactError, match=r"are unknown: .*manifest-\S+ is not a manifest as it was written: it was edited"
    ):
        collected(lake)
    assert before == files_of(lake)


def test_a_manifest_that_speaks_of_another_artifact_ends_it(lake: Lake) -> None:
    one, other = made(lake, "raw/a", 1, 400), made(lake, "raw/b", 2, 400)
    newest_manifest(lake, one).write_bytes(newest_manifest(lake, other).read_bytes())

    with pytest.raises(CorruptArtifactError, match="describes raw/b@"):
        judged(lake)


def test_a_damaged_promotion_log_ends_it(lake: Lake) -> None:
    decide(lake, 1, 10, trained(lake, 1, 400))
    Path(lake.path("promotions", "flight_delay", "000001.json")).write_text("{}")

    with pytest.raises(CorruptArtifactError, match="not an entry of the promotion log"):
        judged(lake)


def test_a_cycle_of_inputs_ends_the_search(lake: Lake) -> None:
    a = made(lake, "raw/a", 1, 400)
    b = made(lake, "raw/b", 1, 400, a)
    made(lake, "raw/a", 1, 300, b)

    assert set() == gone(lake)


# ---------------------------------------------------------------- what is missing or damaged


def test_a_lost_input_stops_gc_and_is_named_with_its_dependents(lake: Lake) -> None:
    lost = ArtifactRef(asset="raw/lost", version="0" * 32)
    b = made(lake, "raw/b", 1, 400, lost)

    with pytest.raises(CorruptArtifactError, match=rf"have no manifest, so .*@{lost.version} \({b} was"):
        judged(lake)


def test_an_input_that_was_removed_on_purpose_does_not_stop_it(lake: Lake) -> None:
    old, newer = trained(lake, 1, 900), trained(lake, 2, 800)
    decide(lake, 1, 899, old)
    decide(lake, 2, 500, newer)
    collect(lake, Policy(NOW, 90, forget_champions=True), lambda _: None)

    assert [] == judged(lake).removed


@pytest.mark.parametrize("stage", ["raw", "training_set", "model", "evaluation"])
@pytest.mark.parametrize("loss", ["the manifest", "the folder", "the manifest and the record of its publication"])
def test_nothing_is_removed_if_a_manifest_in_the_lineage_of_a_champion_is_missing(
    lake: Lake, stage: str, loss: str
) -> None:
    champion, newer = trained(lake, 1, 400), trained(lake, 2, 300)
    decide(lake, 1, 399, champion)
    decide(lake, 2, 299, newer)
    ref = champion[stage]
    for path in Path(lake.directory(ref)).iterdir():
        if loss == "the folder" or path.name.startswith("manifest"):
            path.unlink()
        else:
            os.utime(path, (0, 0))
    if "record" in loss:
        shutil.rmtree(lake.path("order", ref.asset))
    before = files_of(lake)

    with pytest.raises(CorruptArtifactError, match=rf"{ref.version}|/order/{ref.asset}\S* has records up to 0"):
        collected(lake)
    assert before == files_of(lake)


def test_nothing_is_removed_if_a_current_artifact_has_no_manifest(lake: Lake) -> None:
    made(lake, "raw/a", 1, 400)
    current = made(lake, "raw/a", 2, 300)
    newest_manifest(lake, current).unlink()

    with pytest.raises(CorruptArtifactError, match=rf"no manifest.*{current.version} \(\S+000002\.json publishes it"):
        collected(lake)


def test_nothing_is_removed_where_records_of_publications_are_missing(lake: Lake) -> None:
    for n in (1, 2, 3):
        made(lake, "raw/a", n, 400)
    for n in (2, 3):
        Path(lake.path("order", "raw", "a", f"{n:06d}.json")).unlink()

    with pytest.raises(CorruptArtifactError, match=r"order/raw/a has records up to 1, but .* that of publication 3"):
        collected(lake)


def test_the_lineage_of_the_anchor_is_kept_even_if_those_of_former_champions_are_given_up(lake: Lake) -> None:
    first, second, third = (trained(lake, n, 900 - n) for n in (1, 2, 3))
    for number, refs in enumerate((first, second, third), start=1):
        decide(lake, number, 800 - number, refs)
    policy = Policy(NOW, forget_champions=True, anchor_of=lambda entries: entries[0].champion)

    assert keys(second["raw"], second["training_set"]) == {it.key for it in look(lake, policy).removed}


def test_foreign_objects_and_incomplete_folders_are_kept_and_stop_nothing(lake: Lake) -> None:
    made(lake, "raw/a", 1, 400)
    made(lake, "raw/a", 2, 300)
    for path in ("runs/README", "runs/x/y/notes.txt", "studies/m/notes.txt", "promotions/README", "order/raw/README"):
        lake.create(lake.path(path), b"of a person")
        os.utime(lake.path(path), (0, 0))
    for path in ("artifacts/raw/a/" + "a" * 32, "artifacts/empty", "runs/empty/step", "promotions/m"):
        Path(lake.path(path)).mkdir(parents=True)

    assert 1 == len(collected(lake).folders)
    assert 5 == len([path for path, data in files_of(lake).items() if data == b"of a person"])


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_manifest_that_may_not_be_read_is_named(lake: Lake) -> None:
    path = newest_manifest(lake, made(lake, "raw/a", 1, 400))
    path.chmod(0)

    with pytest.raises(CorruptArtifactError, match=rf"are unknown: cannot read {path}"):
        judged(lake)


def test_a_manifest_that_is_a_link_to_nowhere_is_named(lake: Lake) -> None:
    path = newest_manifest(lake, made(lake, "raw/a", 1, 400))
    path.unlink()
    path.symlink_to("nowhere")

    with pytest.raises(CorruptArtifactError, match=rf"are unknown: there is no object {path}"):
        judged(lake)

"""Decisions by a person: `champion`, `promote` and `rollback` on a lake of small models."""

import getpass
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec
from ml_assets.contracts.table import ContractRecord, TableContract
from ml_assets.declaration.reading import read_all
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.models.plan import ModelPlan
from ml_assets.orchestration.flow import MONITORING, Span
from ml_assets.warehouse.project_contracts import read_contracts
from tests.builders import flights_declared, project, promotion, put
from tests.cli.commands import Command
from tests.flights import DBT_PROJECT, DEFS

MODEL = "flight_delay"
MODELS = f"{MODEL}/model"
Kept = tuple[str, str, str]
SPEC = ModelSpec(
    model=MODEL, task="binary", target="is_late", features=(Feature(name="distance_miles", dtype="Int64"),),
    vocabularies={}, parameters={}, rounds=1, as_of=date(2013, 10, 31), first_training_day=date(2013, 1, 1),
    last_training_day=date(2013, 8, 31), last_tuning_day=date(2013, 9, 30), training_rows=1, lightgbm_version="4.7.0",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(manifest: Mapping[str, Any]) -> TableContract:
    """What the declared model reads, by its contract."""
    return ModelPlan.of(read_all(DEFS).model(MODEL), read_contracts(manifest, DBT_PROJECT)).inputs_contract


@pytest.fixture(autouse=True)
def sam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user's name be that of the entries below."""
    monkeypatch.setenv("LOGNAME", "sam")


def log(lake: Lake) -> PromotionLog:
    return PromotionLog(lake, MODEL)


def by_gate(lake: Lake, *versions: str, refused: str | None = None) -> None:
    """Let the gate promote versions one after another, each on its day of January 2026, and refuse one at the end."""
    for number, version in enumerate(versions, start=1):
        entry = promotion(number, champion=version).model_copy(
            update={"decided_at": datetime(2026, 1, number, 3, tzinfo=UTC), "evaluation_version": f"{number:032x}"}
        )
        log(lake).append(entry, number=number)
    if refused is not None:
        number = len(versions) + 1
        entry = promotion(number, champion=None).model_copy(
            update={"champion": versions[-1], "challenger": refused, "reasons": ("it is worse on JFK",)}
        )
        log(lake).append(entry, number=number)


@pytest.fixture
def kept(lake: Lake, inputs: TableContract) -> Kept:
    """Keep three models that can answer what is declared; return their versions."""
    contract = ContractRecord.of(inputs)
    one, two, three = (kept_model(lake, name, contract) for name in ("one", "two", "three"))
    return one, two, three


def kept_model(lake: Lake, name: str, contract: ContractRecord, **changes: Any) -> str:
    model = Model(name, SPEC.model_copy(update=changes), pl.DataFrame({"n": [1]}), contract)
    return put(lake, model, asset=MODELS).version


# ---------------------------------------------------------------- champion


def test_the_champion_is_shown_with_the_log_the_author_and_since_when(lake: Lake, command: Command) -> None:
    by_gate(lake, "a" * 32, "b" * 32, refused="c" * 32)

    assert command("champion", MODEL).text == (
        "   1  2026-01-01 03:00  promote   aaaaaaaaaaaa  by gate\n"
        "      it is better\n"
        "   2  2026-01-02 03:00  promote   bbbbbbbbbbbb  by gate\n"
        "      it is better\n"
        "   3  2026-01-01 00:00  reject    cccccccccccc  by gate\n"
        "      it is worse on JFK\n"
        f"flight_delay: {'b' * 32} is the champion, since 2026-01-02 03:00 UTC (entry 2, gate)\n"
        f"flight_delay: {'a' * 32} is the anchor\n"
    )
    answer = command.json("champion", MODEL)
    assert (MODEL, None, "b" * 32, 2) == (
        answer["model"],
        answer["day"],
        answer["champion"],
        answer["promotion"]["number"],
    )
    assert [it.model_dump(mode="json") for it in log(lake).entries()] == answer["entries"]


def test_the_champion_of_a_day_is_the_champion_at_its_end(lake: Lake, command: Command) -> None:
    by_gate(lake, "a" * 32, "b" * 32)

    assert command("champion", MODEL, "--on", "2026-01-01").text.splitlines()[-1] == (
        f"flight_delay: {'a' * 32} was the champion at the end of 2026-01-01, since 2026-01-01 03:00 UTC (entry 1, "
        "gate)"
    )
    answer = command.json("champion", MODEL, "--on", "2026-01-02")
    assert ("2026-01-02", "b" * 32, 2) == (answer["day"], answer["champion"], len(answer["entries"]))
    early = command("champion", MODEL, "--on", "2025-12-31", code=1).text
    assert "flight_delay: no champion on 2025-12-31\n" == early
    assert None is command.json("champion", MODEL, "--on", "2025-12-31", code=1)["champion"]


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("yesterday", "--on is 'yesterday'; expected a day such as 2013-12-31"),
        ("2026-02-30", "--on is '2026-02-30'; expected a day such as 2013-12-31"),
        ("9999-12-31", "--on 9999-12-31 is in the future; expected a day up to 20"),
    ],
)
def test_an_invalid_or_future_day_ends_with_2(day: str, message: str, command: Command) -> None:
    assert message in command("champion", MODEL, "--on", day, code=2).text


def test_a_challenger_that_waits_for_approval_is_shown_with_its_cause_and_approved_by_promote(
    lake: Lake, kept: Kept, command: Command
) -> None:
    one, two, _ = kept
    by_gate(lake, one)
    waits = promotion(2, champion=one).model_copy(
        update={"action": "request_approval", "challenger": two, "cause": "drift"}
    )
    log(lake).append(waits, number=2)

    printed = command("champion", MODEL).text
    assert (
        f"   2  2026-01-01 00:00  request approval  {two[:12]}  by gate\n      its training was requested by drift\n"
        in printed
    )
    assert printed.endswith(
        f"flight_delay: {two} waits for approval since 2026-01-01 00:00 UTC (entry 2); approve it with: "
        f"ml-assets promote flight_delay {two[:12]} --why REASON\n"
    )
    assert two == command.json("champion", MODEL)["pending"]["challenger"]
    then = command("champion", MODEL, "--on", "2026-01-01").text
    assert then.endswith(
        f"flight_delay: {two} was waiting at the end of 2026-01-01, since 2026-01-01 00:00 UTC (entry 2)\n"
    )

    command("promote", MODEL, two[:12], "--why", "looked at it")
    entry = log(lake).entries()[-1]
    [own] = command("champion", MODEL).text.split("   3  ")[1:]
    assert "was requested by" not in own  # the cause of the training is not the person's reason
    assert ("promote", two, "drift", "sam") == (entry.action, entry.champion, entry.cause, entry.decided_by)
    assert ("looked at it", "The gate passed it in entry 2: it is better") == entry.reasons
    assert None is command.json("champion", MODEL)["pending"]


# ---------------------------------------------------------------- promote


def test_a_person_promotes_a_rejected_challenger_and_the_entry_records_both_decisions(
    lake: Lake, kept: Kept, command: Command
) -> None:
    one, two, _ = kept
    by_gate(lake, one, refused=two)
    before = datetime.now(tz=UTC)

    printed = command("promote", MODEL, two[:6], "--why", "JFK is closed\nthis week").text

    entry = log(lake).entries()[-1]
    assert (3, "promote", two, two) == (entry.number, entry.action, entry.champion, entry.challenger)
    assert "sam" == entry.decided_by
    assert ("JFK is closed this week", "The gate rejected it in entry 2: it is worse on JFK") == entry.reasons
    assert before <= entry.decided_at <= datetime.now(tz=UTC)
    assert f"   3  {entry.decided_at:%Y-%m-%d %H:%M}  promote   {two[:12]}  by sam\n" in printed
    assert printed.endswith(f"flight_delay: {two} is the champion now\n")


def test_the_entry_contains_the_gates_evidence_and_the_given_name(lake: Lake, kept: Kept, command: Command) -> None:
    one, two, _ = kept
    by_gate(lake, one, two)

    answer = command.json("promote", MODEL, one, "--why", "so", "--by", "Ada L.")

    assert log(lake).entries()[-1].model_dump(mode="json") == answer["entry"]
    assert ("Ada L.", f"{1:032x}") == (answer["entry"]["decided_by"], answer["entry"]["evaluation_version"])
    assert None is answer["problem"]


def test_two_equal_decisions_are_distinguished(lake: Lake, kept: Kept, command: Command) -> None:
    one, two, _ = kept
    ids = [command.json("promote", MODEL, it, "--why", "so")["entry"]["id"] for it in (one, two, one)]

    assert 3 == len(set(ids))
    assert all(ids)


def test_a_damaged_log_stops_decisions_until_a_person_begins_a_new_one(
    lake: Lake, kept: Kept, command: Command
) -> None:
    one, two, _ = kept
    by_gate(lake, one, two)
    path = Path(lake.path("promotions", MODEL, "000001.json"))
    path.write_bytes(b"")

    for given in (["champion", MODEL], ["promote", MODEL, one, "--why", "so"], ["rollback", MODEL, "--why", "so"]):
        assert f"the promotion log of {MODEL} is damaged" in command(*given, code=2).text

    printed = command("promote", MODEL, two, "--new-log", "--why", "no backup").text

    assert f"was set aside in {lake.path('set_aside', 'promotions', MODEL)}/" in printed
    assert f"{path} is not an entry of the promotion log" in printed
    [entry] = log(lake).verified().entries
    assert (1, two, "no backup") == (entry.number, entry.champion, entry.reasons[0])
    assert "flight_delay is not damaged" in command("promote", MODEL, one, "--new-log", "--why", "so", code=2).text


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (("promote", MODEL, "{two}"), "{two} is already the champion."),
        (("rollback", MODEL, "--to", "{two}"), "{two} is already the champion."),
        (("rollback", MODEL, "--to", "{three}"), "{three} was never champion; use ml-assets promote instead."),
    ],
)
def test_a_decision_that_would_change_nothing_or_skip_the_gate_is_refused(
    lake: Lake, kept: Kept, command: Command, decision: tuple[str, ...], message: str
) -> None:
    versions = dict(zip(("one", "two", "three"), kept, strict=True))
    by_gate(lake, *kept[:2], refused=kept[2])

    printed = command(*(word.format(**versions) for word in decision), "--why", "so", code=1).text

    assert f"ml-assets: flight_delay: {message.format(**versions)}\n" == printed
    assert 3 == len(log(lake).entries())


def test_a_version_that_contradicts_the_declaration_is_rejected_with_the_reasons(
    lake: Lake, inputs: TableContract, command: Command
) -> None:
    other = tuple(replace(it, unit="km") if it.name == "distance_miles" else it for it in inputs.columns)
    version = kept_model(lake, "old", ContractRecord.of(replace(inputs, columns=other)), target="is_cancelled")

    printed = command("promote", MODEL, version, "--why", "so", code=1).text

    assert printed.startswith(
        f"ml-assets: flight_delay: {version[:12]} cannot be the champion, so nothing was changed:\n- "
    )
    assert "- its target is is_cancelled; the declaration has is_late.\n" in printed
    assert "'distance_miles'" in printed
    assert printed.endswith("Train it again for a new verdict of the gate: ml-assets run flight_delay.\n")
    refused = command.json("promote", MODEL, version, "--why", "so", code=1)
    assert None is refused["entry"]
    assert "is_cancelled" in refused["problem"]
    assert [] == log(lake).entries()


def test_a_version_that_is_damaged_or_not_there_is_rejected_by_name(lake: Lake, kept: Kept, command: Command) -> None:
    [booster] = (Path(lake.url) / "artifacts" / MODELS / kept[0]).glob("booster*")
    booster.write_bytes(booster.read_bytes()[:-1])

    assert f"- {booster} is damaged" in command("promote", MODEL, kept[0], "--why", "so", code=1).text
    assert "- flight_delay/model@000000000000" in command("promote", MODEL, "0" * 32, "--why", "so", code=1).text
    assert [] == log(lake).entries()


def test_an_abbreviation_that_several_versions_share_is_an_error_with_all_of_them(lake: Lake, command: Command) -> None:
    versions = [f"abcd{n:028x}" for n in (1, 2)]
    for version in versions:
        name = f"manifest-000001-{version[:16]}.json"
        lake.write(lake.path("artifacts", MODELS, version, name), lambda file: file.write(b"{}"))

    assert (
        f"2 versions of flight_delay/model start with 'abcd': {', '.join(versions)}. Give more characters."
        in command("promote", MODEL, "abcd", "--why", "so", code=2).text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["abc"], "'abc' is not a version of flight_delay/model; expected 4 to 32 of the characters 0-9 and a-f"),
        (["../.."], "'../..' is not a version of flight_delay/model"),
        (["abcd"], "flight_delay/model has no versions starting with 'abcd'"),
        (["abcd", "--why", "  \n"], "--why is empty; expected a text for the promotion log"),
        (["abcd", "--why", "so \x1b[2J"], "--why has the character '\\x1b'; expected printable characters"),
        (["abcd", "--why", "x" * 2001], "--why has 2,001 characters; expected up to 2,000"),
        (["abcd", "--by", " Gate"], "--by is 'Gate', which is the name of the gate"),
    ],
)
def test_an_unusable_version_ends_with_2_and_a_fix(
    lake: Lake, arguments: list[str], message: str, command: Command
) -> None:
    assert message in command("promote", MODEL, "--why", "so", *arguments, code=2).text
    assert [] == log(lake).entries()


def test_a_process_whose_user_has_no_name_is_requested_one(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)

    assert "uid not found: 1000" in command("promote", MODEL, "abcd", "--why", "so", code=2).text


# ---------------------------------------------------------------- two at once


@pytest.mark.parametrize("decision", ["promote", "rollback"])
def test_a_decision_that_lost_to_a_concurrent_one_changes_nothing_and_names_the_other_author(
    lake: Lake, kept: Kept, decision: str, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    one, two, three = kept
    by_gate(lake, one, two)
    get = Lake.get

    def meanwhile(self: Lake, *arguments: Any, **options: Any) -> object:
        monkeypatch.setattr(Lake, "get", get)
        command("promote", MODEL, three, "--why", "it burns", "--by", "bob")
        return get(self, *arguments, **options)

    monkeypatch.setattr(Lake, "get", meanwhile)

    printed = command(decision, MODEL, *([one] if decision == "promote" else []), "--why", "so", code=1).text

    assert "ml-assets: flight_delay: entry 3 of the promotion log of flight_delay was written by bob" in printed
    assert f"(promote {three[:12]}: it burns); the current champion is {three}. Nothing was changed" in printed
    assert ["gate", "gate", "bob"] == [entry.decided_by for entry in log(lake).entries()]


# ---------------------------------------------------------------- rollback


def test_each_rollback_goes_further_back_and_fails_without_an_earlier_champion(
    lake: Lake, kept: Kept, command: Command
) -> None:
    one, two, three = kept
    by_gate(lake, one, two, three)

    assert command("rollback", MODEL, "--why", "it is late").text.endswith(f"{two} is the champion now\n")
    assert command.json("rollback", MODEL, "--why", "so is it")["entry"]["champion"] == one
    printed = command("rollback", MODEL, "--why", "and now", code=1).text
    assert f"ml-assets: flight_delay: the champion {one} has no predecessor to roll back to.\n" == printed
    entries = log(lake).entries()
    assert [("rollback", two, two), ("rollback", one, one)] == [
        (entry.action, entry.champion, entry.challenger) for entry in entries[3:]
    ]
    assert ("it is late", "The gate promoted it in entry 2: it is better") == entries[3].reasons
    assert f"{2:032x}" == entries[3].evaluation_version


def test_a_rollback_can_name_any_former_champion(lake: Lake, kept: Kept, command: Command) -> None:
    one, two, _ = kept
    by_gate(lake, one, two)

    for version in (one, two):
        assert f"{version} is the champion now\n" in command("rollback", MODEL, "--to", version[:8], "--why", "so").text


def test_a_challenger_online_is_withdrawn_by_a_person_and_without_one_nothing_is(lake: Lake, command: Command) -> None:
    by_gate(lake, "a" * 32, refused="b" * 32)
    refused = command("withdraw", MODEL, "--why", "complaints", code=1)
    begun = (
        log(lake)
        .entries()[-1]
        .model_copy(update={"number": 3, "action": "online", "share": 0.1, "decided_by": "shadow"})
    )
    log(lake).append(begun, number=3)

    done = command("withdraw", MODEL, "--why", "complaints")

    assert f"ml-assets: {MODEL}: no challenger is online, so there is none to withdraw.\n" == refused.err
    assert f"challenger {'b' * 32} is withdrawn; {'a' * 32} answers all requests" in done.out
    entry = log(lake).entries()[-1]
    assert ("withdraw", "a" * 32, "b" * 32, "sam", ("complaints",)) == (
        entry.action, entry.champion, entry.challenger, entry.decided_by, entry.reasons,
    )  # fmt: skip
    command("withdraw", MODEL, "--why", "again", code=1)


def test_without_a_champion_there_is_no_rollback(lake: Lake, command: Command) -> None:
    printed = command("rollback", MODEL, "--why", "so", code=1).text

    assert "there is no champion, so there is nothing to roll back." in printed
    assert [] == log(lake).entries()


def test_a_champion_that_cannot_serve_again_is_rejected_and_others_are_named(
    lake: Lake, kept: Kept, command: Command
) -> None:
    one, two, three = kept
    by_gate(lake, one, two, three)
    shutil.rmtree(Path(lake.url) / "artifacts" / MODELS / two)

    printed = command("rollback", MODEL, "--why", "so", code=1).text

    assert f"{two[:12]} cannot be the champion, so nothing was changed:\n- flight_delay/model@{two[:12]} " in printed
    assert printed.endswith(f"Roll back to another version with --to: {one}.\n")
    assert 3 == len(log(lake).entries())


# ---------------------------------------------------------------- what follows


@pytest.mark.long  # it needs the lake of the whole flow
def test_after_a_rollback_predictions_are_out_of_date_and_computed_by_the_current_champion(
    own_flown: Path, manifest: Mapping[str, Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = "2013-02-10"
    there = Lake(str(own_flown))
    monkeypatch.setenv("ML_ASSETS_LAKE", there.url)
    first = there.find(MODELS)
    model: Model = there.get(first, Model)
    other = replace(model, spec=model.spec.model_copy(update={"lightgbm_version": "4.6.0"}))
    second = put(there, other, asset=MODELS).version

    with project(LakeResource(url=there.url), flights_declared(), manifest=manifest) as whole:
        wanted = {dg.AssetKey([MODEL, stage]): [day] for stage in MONITORING}

        def monitored() -> tuple[list[str], list[str]]:
            lines: list[str] = []
            span = Span.of(whole.model, as_of=None, first=day, last=None)
            assert whole.flow._groups({"monitoring": wanted}, span, lines.append), whole.log.getvalue()
            scored: pl.DataFrame = there.get(there.find(f"{MODEL}/predictions", day), pl.DataFrame)
            return lines, scored["model_version"].unique().to_list()

        again = [f"monitoring: predictions, drift, performance for {day}"]
        assert (["monitoring: up to date"], [first.version]) == monitored()
        command("promote", MODEL, second, "--why", "it is newer")
        assert (again, [second]) == monitored()
        command("rollback", MODEL, "--why", "it is worse")
        assert (again, [first.version]) == monitored()
        assert (["monitoring: up to date"], [first.version]) == monitored()

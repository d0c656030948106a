"""The gate where it sits: what becomes of a challenger, in the log, for a person and in the web UI."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from ml_assets.contracts.artifacts.evaluation import Evaluation, EvaluationSummary
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import TableContract
from ml_assets.lake.errors import PromotionConflictError
from ml_assets.lake.promotion_log import TRIES, PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Origin
from ml_assets.logic.promotion.log import Decision, anchor, entry_of, rejections, serving_since, waiting
from ml_assets.models.champions import Champion, champion_model
from ml_assets.models.evaluation import example_row
from ml_assets.models.leaks import LONE
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.champion import champion, serving_costs
from ml_assets.stages.evaluation import evaluation
from tests.builders import OneLedger, promotion
from tests.event_logs import ephemeral_instance
from tests.stages.shop import FEATURES, OPEN, Trained, plan_of


@dataclass(frozen=True)
class Gate:
    """A lake that keeps a trained model with its evaluation, and the stage that judges it."""

    lake: LakeResource
    trained: Trained
    version: str

    def judge(
        self, plan: ModelPlan, *, tags: Mapping[str, str] | None = None, **changes: Any
    ) -> tuple[Promotion, Mapping[str, Any]]:
        """Keep the evaluation with these changes, and judge by it."""
        summary = self.trained.evaluation.summary.model_copy(update={"model_version": self.version, **changes})
        opened = self.lake.connect()
        kept = opened.put("returns/evaluation", None, replace(self.trained.evaluation, summary=summary), Origin())
        instance = OPEN.enter_context(ephemeral_instance())
        context = OPEN.enter_context(dg.build_asset_context(run_tags=tags, instance=instance))
        read: Evaluation = self.lake.ledger().get(kept.ref, Evaluation)
        check, output = champion(plan)(context, read, ml_assets_lake=self.lake)
        plain = (dg.TextMetadataValue, dg.IntMetadataValue, dg.FloatMetadataValue)
        shown = {name: it.value if isinstance(it, plain) else it for name, it in output.metadata.items()}
        return output.value, {**shown, "check": check}

    def evaluate(self, plan: ModelPlan) -> Any:
        """Return the output of the stage of the evaluation."""
        *_, output = evaluation(plan)(self.trained.training_set, self.trained.model, ml_assets_lake=self.lake)
        return output

    def store(self, **changes: Any) -> str:
        """Store the model with changes of its record, and return the version."""
        model = replace(self.trained.model, spec=self.trained.model.spec.model_copy(update=changes))
        return self.lake.connect().put("returns/model", None, model, Origin()).version

    def promote(self, plan: ModelPlan, version: str, *, number: int = 1) -> None:
        log = plan.promotion_log(self.lake.connect())
        log.append(promotion(number, champion=version, model="returns"), number=number)

    def entries(self, plan: ModelPlan) -> list[Promotion]:
        return plan.promotion_log(self.lake.connect()).entries()


@pytest.fixture
def gate(lake: LakeResource, trained: Trained) -> Gate:
    stored = lake.connect().put("returns/model", None, trained.model, Origin())
    return Gate(lake, trained, stored.version)


def plan_with(features: TableContract = FEATURES, **rules: object) -> ModelPlan:
    return plan_of(features, gate={"min_rows": 50, **rules})


def another_champion(gate: Gate, plan: ModelPlan, *, number: int = 1) -> str:
    """Return the version of a champion that gives the challenger's scores and is another model."""
    version = gate.store(lightgbm_version="4.6.0")
    gate.promote(plan, version, number=number)
    return version


def as_compared(summary: EvaluationSummary) -> dict[str, Any]:
    """Return what an evaluation contains about champion and anchor."""
    names = ("against_champion", "champion_version", "against_anchor", "anchor_version", "test_days")
    return {name: getattr(summary, name) for name in names}


STRICT = {"min_rows": 10**6}
BY_A_PERSON = {"approval": "person"}


# ---------------------------------------------------------------- promoted or refused


def test_the_first_good_challenger_is_promoted_and_the_anchor(plan: ModelPlan, gate: Gate) -> None:
    entry, shown = gate.judge(plan)

    assert ("promote", 1, "gate", gate.version) == (entry.action, entry.number, entry.decided_by, entry.champion)
    assert (True, None, 1, None) == (entry.is_anchor, entry.anchor, entry.attempt, entry.cause)
    assert gate.trained.evaluation.summary.test_days == entry.test_days
    assert [entry] == gate.entries(plan)
    assert gate.version == anchor([entry])
    assert ("promoted", False) == (shown["verdict"], "cause" in shown)
    assert shown["check"].passed
    assert entry.reasons


def test_a_challenger_below_the_gate_is_rejected_with_reasons_and_there_is_no_champion(gate: Gate) -> None:
    strict = plan_with(**STRICT)
    entry, shown = gate.judge(strict)

    assert ("reject", None) == (entry.action, entry.champion)
    assert entry.reasons
    assert ("rejected", "none") == (shown["verdict"], shown["champion"])
    assert (False, dg.AssetCheckSeverity.WARN) == (shown["check"].passed, shown["check"].severity)
    assert {"rows"} == {it.data["rule"] for it in shown["check"].metadata["rules"].records if not it.data["holds"]}
    assert None is champion_model(gate.lake.ledger(), strict)


def test_a_rejected_challenger_leaves_the_champion(gate: Gate) -> None:
    strict = plan_with(**STRICT)
    champion = another_champion(gate, strict)
    output = gate.evaluate(strict)

    entry, _ = gate.judge(strict, **as_compared(output.value.summary))

    assert (2, "reject", champion) == (entry.number, entry.action, entry.champion)
    found = champion_model(gate.lake.ledger(), strict)
    assert isinstance(found, Champion)
    assert champion == found.version


def test_a_challenger_that_was_compared_with_another_champion_is_not_judged(plan: ModelPlan, gate: Gate) -> None:
    gate.promote(plan, "c" * 32)

    with pytest.raises(
        DataError, match=r"compared with champion None and anchor None, but now they are c{32} and c{32}; mat"
    ):
        gate.judge(plan)

    assert 1 == len(gate.entries(plan))


def test_judging_the_champions_evaluation_again_changes_and_writes_nothing(plan: ModelPlan, gate: Gate) -> None:
    first, _ = gate.judge(plan)
    again, _ = gate.judge(plan)

    assert first == again
    assert [first] == gate.entries(plan)


# ---------------------------------------------------------------- two flows at once


def test_a_flow_whose_model_another_flow_has_just_promoted_logs_nothing(plan: ModelPlan, gate: Gate) -> None:
    first, _ = gate.judge(plan)
    output = gate.evaluate(plan)

    again, shown = gate.judge(plan, **as_compared(output.value.summary))

    assert gate.version == output.value.summary.champion_version
    assert first == again
    assert [first] == gate.entries(plan)
    assert shown["check"].passed
    assert "The challenger is already the champion, since entry 1." in str(shown["reasons"])


def test_flows_that_reject_the_same_challenger_at_once_add_one_entry_and_one_refusal(gate: Gate) -> None:
    strict = plan_with(**STRICT, max_latency_ms=10_000)
    another_champion(gate, strict)
    compared = as_compared(gate.evaluate(strict).value.summary)

    with ThreadPoolExecutor(4) as pool:
        judged = [it.result()[0] for it in [pool.submit(gate.judge, strict, **compared) for _ in range(4)]]

    assert [2] * 4 == [entry.number for entry in judged]
    entries = gate.entries(strict)
    assert ["promote", "reject"] == [it.action for it in entries]
    assert 1 == rejections(entries, serving_since(entries))


def test_a_flow_that_loses_the_race_for_an_entry_decides_again_on_the_new_log(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_with(**STRICT)
    raced = PromotionLog.append

    def lose_twice(log: PromotionLog, entry: Promotion, *, number: int) -> Promotion:
        if number < 3:
            raced(log, promotion(number, champion=None, model="returns"), number=number)
        return raced(log, entry, number=number)

    monkeypatch.setattr(PromotionLog, "append", lose_twice)
    entry, _ = gate.judge(plan)

    assert (3, "reject", gate.version) == (entry.number, entry.action, entry.challenger)


def test_a_flow_that_always_loses_the_race_gives_up_with_the_reason(
    gate: Gate, plan: ModelPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def lose(log: PromotionLog, entry: Promotion, *, number: int) -> Promotion:
        del log, entry
        tries.append(number)
        raise PromotionConflictError("somebody else was first")

    monkeypatch.setattr(PromotionLog, "append", lose)
    with pytest.raises(PromotionConflictError, match="somebody else was first"):
        gate.judge(plan)

    assert TRIES == len(tries)


# ---------------------------------------------------------------- the rules that only the stage can try


def test_every_rule_is_in_the_record_and_a_row_of_a_table_in_the_web_ui(gate: Gate) -> None:
    entry, shown = gate.judge(plan_with(**STRICT, max_size_mib=50, max_latency_ms=10_000, max_calibration_error=1.0))

    held = {rule.name: rule.holds for rule in entry.rules}
    wanted = {"rows": False, "unseen": True, "contract": True, "latency": True, "size": True, "champion": True}
    assert wanted.items() <= held.items()
    assert {"baseline constant", "bound calibration_error"} <= held.keys()
    rows = [record.data for record in shown["rules"].records]
    assert [rule.model_dump() for rule in entry.rules] == [
        {"name": row["rule"], "holds": row["holds"], "sentence": row["sentence"]} for row in rows
    ]


@pytest.mark.parametrize(("limit", "name"), [("max_latency_ms", "latency"), ("max_size_mib", "size")])
def test_a_model_that_costs_more_than_declared_is_rejected(gate: Gate, limit: str, name: str) -> None:
    entry, shown = gate.judge(plan_with(**{limit: 1e-6}))

    assert "reject" == entry.action
    assert [name] == [rule.name for rule in entry.rules if not rule.holds]
    assert "above the declared 1e-06" in entry.reasons[0]
    assert any(figure.startswith(f"{name}, ") for figure in shown)


def test_without_declared_limits_costs_are_shown_and_not_recorded(plan: ModelPlan, gate: Gate) -> None:
    entry, shown = gate.judge(plan)

    assert 0 < shown["latency, ms"] < 1_000
    assert pytest.approx(len(gate.trained.model.booster.encode()) / 2**20) == shown["size, MiB"]
    assert not any(name.startswith(("latency", "size")) for name in entry.figures)
    assert {"latency", "size"}.isdisjoint(rule.name for rule in entry.rules)


def test_costs_are_measured_on_a_row_of_every_feature(trained: Trained, plan: ModelPlan) -> None:
    row = example_row(trained.model.spec)
    latency, size = serving_costs(trained.model, plan.declaration.gate)

    assert (1, [feature.name for feature in trained.model.spec.features]) == (row.height, row.columns)
    assert 0 == sum(row.null_count().row(0))
    assert min(latency.value, size.value) > 0


def test_a_challenger_that_contradicts_the_current_declaration_is_rejected(gate: Gate) -> None:
    other = tuple(replace(it, unit="lb") if it.name == "weight kg" else it for it in FEATURES.columns)
    entry, _ = gate.judge(plan_with(replace(FEATURES, columns=other)))

    assert "reject" == entry.action
    assert ["contract"] == [rule.name for rule in entry.rules if not rule.holds]
    assert "'weight kg'" in entry.reasons[0]


def test_a_champion_that_has_learned_from_the_test_rows_is_not_compared_on_them(
    trained: Trained, gate: Gate, plan: ModelPlan
) -> None:
    test = next(window for window in trained.training_set.summary.windows if window.split == "test")
    late = {"last_tuning_day": test.last_day - timedelta(days=1)}
    version = gate.store(**late)
    gate.promote(plan, version)

    summary = gate.evaluate(plan).value.summary
    entry, _ = gate.judge(plan, **{**dict(summary), "model_version": gate.version})

    assert None is summary.against_champion
    assert 9 * 40 == summary.seen_rows
    assert ("reject", version) == (entry.action, entry.champion)
    assert ["unseen"] == [rule.name for rule in entry.rules if not rule.holds]


def test_a_trained_model_records_the_last_day_that_it_was_trained_on(trained: Trained) -> None:
    days = {window.split: (window.first_day, window.last_day) for window in trained.training_set.summary.windows}

    assert days["validation"][1] == trained.model.spec.last_tuning_day == trained.model.spec.last_seen_day
    assert trained.evaluation.summary.last_seen_day == trained.model.spec.last_seen_day < days["test"][0]
    assert 0 == trained.evaluation.summary.excluded_rows


def test_the_evaluation_has_checks_for_the_baselines_and_for_rows_that_are_new(
    plan: ModelPlan, trained: Trained, lake: LakeResource
) -> None:
    baselines, unseen, output = evaluation(plan)(trained.training_set, trained.model, ml_assets_lake=lake)
    listed = [it.data for it in baselines.metadata["differences"].records]

    assert baselines.passed
    assert [it.against for it in output.value.summary.against_baselines] == [it["against"] for it in listed]
    assert all(it["95 % from"] > 0 for it in listed)
    assert (True, 0) == (unseen.passed, unseen.metadata["rows seen before"].value)


def test_a_slice_is_judged_from_the_declared_number_of_rows_on(trained: Trained, lake: LakeResource) -> None:
    stage = evaluation(plan_with(min_slice_rows=50))
    *_, judged = stage(trained.training_set, trained.model, ml_assets_lake=lake)
    wide = judged.value

    assert wide.slices["is_judged"].all()
    assert not trained.evaluation.slices["is_judged"].any()


# ---------------------------------------------------------------- the anchor


def with_a_champion_after_the_anchor(gate: Gate, plan: ModelPlan, *, anchor: str) -> str:
    """Return a champion that follows an anchor and is not one itself."""
    gate.promote(plan, anchor)
    return another_champion(gate, plan, number=2)


def test_the_evaluation_compares_with_the_anchor_too(gate: Gate, plan: ModelPlan) -> None:
    champion = with_a_champion_after_the_anchor(gate, plan, anchor=gate.version)

    output = gate.evaluate(plan)
    summary = output.value.summary

    assert (champion, gate.version) == (summary.champion_version, summary.anchor_version)
    assert 0 == summary.against_anchor.difference.value
    shown = output.metadata["differences to champion and anchor"].records
    assert ["champion", "anchor"] == [it.data["against"] for it in shown]
    head = plan.promotion_log(gate.lake.connect()).verified().head
    noted = {"champion": champion, "anchor": gate.version, "promotion_log_entry": head.model_dump()}
    assert noted == gate.lake.ledger().notes


def test_a_missing_anchor_is_named_with_the_reason(gate: Gate, plan: ModelPlan) -> None:
    with_a_champion_after_the_anchor(gate, plan, anchor="f" * 32)

    summary = gate.evaluate(plan).value.summary

    assert ("f" * 32, None) == (summary.anchor_version, summary.against_anchor)
    assert f"returns/model@{'f' * 12}" in summary.anchor_cannot_score


def test_each_rejection_on_the_same_days_raises_the_confidence_for_the_next_challenger(gate: Gate) -> None:
    plan = plan_with(**STRICT)
    second = replace(gate, version=gate.store(lightgbm_version="4.5.0"))

    judged = [one.judge(plan)[0] for one in (gate, second, gate)]

    assert [1, 2, 1] == [entry.attempt for entry in judged]
    assert [1, 2, 1] == [entry.number for entry in judged]
    assert "at 99.17 % confidence (attempt 2)" in " ".join(rule.sentence for rule in judged[1].rules)


def test_a_challenger_that_was_compared_with_another_anchor_is_not_judged(gate: Gate, plan: ModelPlan) -> None:
    champion = with_a_champion_after_the_anchor(gate, plan, anchor="f" * 32)
    first = {"champion_version": champion, "champion_cannot_score": "gone", "anchor_version": "e" * 32}

    with pytest.raises(DataError, match=f"and anchor {'e' * 32}, but now they are {champion} and {'f' * 32}"):
        gate.judge(plan, **first)


# ---------------------------------------------------------------- what asked for it


def test_the_cause_of_the_run_and_no_other_tag_is_stored_and_shown(plan: ModelPlan, gate: Gate) -> None:
    entry, shown = gate.judge(plan, tags={"ml_assets/cause": "drift", "ml_assets/model": "returns", "secret": "s3cret"})

    assert ("drift", "drift") == (entry.cause, shown["cause"])
    assert "s3cret" not in entry.model_dump_json()


# ---------------------------------------------------------------- a person's approval


def test_if_a_person_approves_a_passing_challenger_is_pending_and_the_champion_unchanged(gate: Gate) -> None:
    plan = plan_with(**BY_A_PERSON)
    entry, shown = gate.judge(plan)

    assert ("request_approval", None, gate.version) == (entry.action, entry.champion, entry.challenger)
    assert entry == waiting(gate.entries(plan))
    assert "waits for approval" == shown["verdict"]
    assert not shown["check"].passed
    assert f"ml-assets promote returns {gate.version[:12]} --why REASON" == shown["to approve"]
    assert None is champion_model(gate.lake.ledger(), plan)


@pytest.mark.parametrize(("acknowledged", "action"), [((), "request_approval"), (("items",), "promote")])
def test_a_suspected_leak_waits_for_a_person_unless_the_declaration_acknowledges_it(
    gate: Gate, acknowledged: tuple[str, ...], action: str
) -> None:
    lone = {"column": "items", "power": 0.8, "rest": 0.1, "is_copy": False}
    training = gate.lake.connect().put(
        "returns/training_set", None, gate.trained.training_set, Origin(parameters={LONE: [lone]})
    )
    plan = plan_of(leak_test={"samples": 0, "acknowledged": acknowledged}, gate={"min_rows": 50})

    entry, _ = gate.judge(plan, training_set_version=training.version)

    assert action == entry.action
    assert ("column 'items' alone explains 80.0%" in " ".join(entry.reasons)) == (action == "request_approval")


def test_a_pending_challenger_is_judged_again_without_a_second_entry_unless_it_now_fails(gate: Gate) -> None:
    plan = plan_with(**BY_A_PERSON)
    first, _ = gate.judge(plan)
    again, _ = gate.judge(plan)
    refused, _ = gate.judge(plan_with(**BY_A_PERSON, **STRICT))

    assert first == again
    assert (2, "reject") == (refused.number, refused.action)
    assert None is waiting(gate.entries(plan))


def test_a_newer_challenger_takes_the_place_of_the_one_that_waits(gate: Gate) -> None:
    plan = plan_with(**BY_A_PERSON)
    gate.judge(plan)
    version = gate.store(lightgbm_version="4.6.0")

    entry, _ = replace(gate, version=version).judge(plan, against_baselines=())

    assert (2, "request_approval", version) == (entry.number, entry.action, entry.challenger)
    assert entry == waiting(gate.entries(plan))


@pytest.mark.parametrize("rules", [BY_A_PERSON, STRICT, {}])
def test_an_approved_champion_is_unchanged_when_its_evaluation_is_judged_again(
    gate: Gate, rules: Mapping[str, object]
) -> None:
    plan = plan_with(**BY_A_PERSON)
    entry, _ = gate.judge(plan)
    decision = Decision("promote", gate.version, "looked at it", by="sam", at=entry.decided_at, entry_id="1f3a")
    let_in = entry_of([entry], decision, model="returns")
    let_in = plan.promotion_log(gate.lake.connect()).append(let_in, number=2)

    again, _ = gate.judge(plan_with(**rules))

    assert let_in == again
    assert [entry, let_in] == gate.entries(plan)


def test_a_pending_challenger_is_promoted_when_approval_is_no_longer_required(gate: Gate, plan: ModelPlan) -> None:
    gate.judge(plan_with(**BY_A_PERSON))
    entry, _ = gate.judge(plan)

    assert (2, "promote", gate.version) == (entry.number, entry.action, entry.champion)
    assert None is waiting(gate.entries(plan))


# ---------------------------------------------------------------- a word that no artifact holds


@pytest.mark.parametrize(
    ("changed", "stands"),
    [
        (lambda entry: entry.model_copy(update={"figures": {**entry.figures, "latency, ms": 0.1}}), True),
        (lambda entry: entry.model_copy(update={"figures": {**entry.figures, "rows": 1.0}}), False),
        (lambda entry: entry.model_copy(update={"rules": entry.rules[1:]}), False),
    ],
)
def test_a_rejection_without_its_artifact_is_reused_even_if_the_latency_differs(
    gate: Gate, changed: Callable[[Promotion], Promotion], *, stands: bool
) -> None:
    strict = plan_with(**STRICT, max_latency_ms=10_000)
    other = OneLedger(url=f"{gate.lake.url}/other")
    other.connect().put("returns/model", None, gate.trained.model, Origin())
    written, _ = replace(gate, lake=other).judge(strict)
    strict.promotion_log(gate.lake.connect()).append(changed(written), number=1)

    again, _ = gate.judge(strict)

    assert (1 if stands else 2) == again.number
    assert again.number == len(gate.entries(strict))

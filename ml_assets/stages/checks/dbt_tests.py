"""Checks of dbt's tables: one for each rule of their contracts, and one for each test that only dbt can run.

Not here: building and publishing the tables (see `ml_assets.stages.tables`).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.checking import Others, Report, RuleResult, check_table, has_broken_numbers
from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.from_dbt import rules_by_test
from ml_assets.contracts.periods import Calendar
from ml_assets.contracts.sql import broken_predicates
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.quarantine import QUARANTINE, REJECTED, released_rows, store_rejected
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.dbt_tests import DbtTestOutcome, report_of_failure, report_of_tests
from ml_assets.logic.tables.quarantine import audit, quarantine_findings, released_counts
from ml_assets.logic.tables.raw import PARTITION
from ml_assets.models.plan import table_key
from ml_assets.stages.checks.contract_rules import check_name, check_results, check_specs, reject, rule_check_name
from ml_assets.warehouse.nodes import table_name, with_ancestors
from ml_assets.warehouse.warehouse import Build, Quarantine

Node = Mapping[str, Any]
F = TypeVar("F", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True)
class CheckedProject:
    """dbt's models with their tests, contracts and quarantines."""

    manifest: Mapping[str, Any]
    contracts: Mapping[str, TableContract]
    shares: Mapping[str, float]

    @classmethod
    def of(
        cls, declaration: TablesDeclaration, manifest: Mapping[str, Any], contracts: Mapping[str, TableContract]
    ) -> "CheckedProject":
        """Return the project of a declaration and dbt's manifest.

        Raises:
            ContractError: the declaration names a table that dbt does not know.
        """
        project = cls(manifest, contracts, declaration.quarantine)
        names = [node["name"] for node in project.models.values()]
        strange = [name for name in declaration.quarantine if name not in names]
        if strange:
            raise ContractError(
                "\n".join(
                    f"{declaration.place('quarantine', name)}: there is no table '{name}' in dbt{near(name, names)}."
                    for name in strange
                )
            )
        return project

    @functools.cached_property
    def nodes(self) -> dict[str, Node]:
        """Models, tests and sources by unique id."""
        return {**self.manifest["nodes"], **self.manifest["sources"]}

    @functools.cached_property
    def models(self) -> dict[str, Node]:
        """The models by unique id."""
        return {uid: node for uid, node in self.manifest["nodes"].items() if node["resource_type"] == "model"}

    @functools.cached_property
    def _by_table(self) -> dict[str, str]:
        """Unique ids by contract name."""
        tables = {uid: node for uid, node in self.nodes.items() if node["resource_type"] in {"model", "source"}}
        return {
            node["name"] if node["resource_type"] == "model" else table_name(node): uid for uid, node in tables.items()
        }

    @functools.cached_property
    def _rules(self) -> Mapping[str, tuple[str, str]]:
        return rules_by_test(self.manifest, self.contracts)

    @functools.cached_property
    def _tests(self) -> dict[str, list[str]]:
        """The tests of each model: those in its YAML, and those in SQL files that read it."""
        found: dict[str, list[str]] = {}
        for uid, test in self.manifest["nodes"].items():
            if test["resource_type"] == "test":
                attached = test.get("attached_node")
                read = [] if test.get("test_metadata") else test["depends_on"]["nodes"]
                for model in [attached] if attached else read:
                    found.setdefault(model, []).append(uid)
        return found

    def contract(self, model: str) -> TableContract:
        """Return a model's contract."""
        return self.contracts[self.nodes[model]["name"]]

    def check_specs(self, model: str) -> Iterator[dg.AssetCheckSpec]:
        """Yield a model's checks."""
        key = table_key(self.nodes[model]["name"])
        yield from check_specs(self.contract(model), key)
        for uid in self._tests.get(model, ()):
            if uid not in self._rules:
                test = self.nodes[uid]
                yield dg.AssetCheckSpec(
                    check_name(test["name"]), asset=key, description=test.get("description") or test["name"],
                    blocking=str(test["config"]["severity"]).lower() == "error",
                )  # fmt: skip

    @functools.cached_property
    def aside(self) -> dict[str, dict[str, JsonValue]]:
        """The models that may quarantine rows, each with the settings that decide which, for manifests."""
        return {
            uid: Quarantine(self.shares[node["name"]], self.predicates(uid)).parameters
            for uid, node in self.models.items()
            if node["name"] in self.shares
        }

    def quarantines(self, lake: Lake, models: Sequence[str]) -> dict[str, Quarantine]:
        """Return the quarantine settings of some models, with the rows that a person released."""
        return {model: self._quarantine(lake, model) for model in models if model in self.aside}

    def _quarantine(self, lake: Lake, model: str) -> Quarantine:
        node, names = self.nodes[model], self.contract(model).names
        found = released_rows(lake, table_name(node))
        rows = found.rows
        if rows is not None:  # those with other columns belong to another contract
            rows = rows.select(names) if {*names} <= {*rows.columns} else None
        return Quarantine(self.shares[node["name"]], self.predicates(model), rows, found.inputs)

    def predicates(self, model: str) -> dict[str, str]:
        """Return a model's row rules as SQL. Relationships are limited to tables that dbt builds before it."""
        before = {*with_ancestors(self.nodes, [model])} - {model}
        relations = {
            name: str(self.nodes[uid]["relation_name"]) for name, uid in self._by_table.items() if uid in before
        }
        return broken_predicates(self.contract(model), relations=relations)

    def report(self, lake: Lake, built: Build, model: str, *, by_day: bool) -> tuple[Report, dict[str, dict[str, int]]]:
        """Return the findings of tests and constraints for one model, and by rule the quarantined and released rows."""
        contract, name = self.contract(model), self.nodes[model]["name"]
        if model not in built.seconds:
            return report_of_failure(contract, built.failed.get(model, "")), {}
        frame = pl.scan_parquet([*built.files(name).values()], glob=False)
        rows = int(frame.select(pl.len()).collect().item())
        partition = PARTITION if by_day else None
        marked = _with_period(frame, partition, built.calendar)
        outcomes = self._outcomes(built, model)
        others = self._others(lake, built, contract)
        quarantine = built.quarantines.get(model)
        released = None if quarantine is None else quarantine.released
        found = None
        # dbt has no test for rules that apply without a declaration, such as finite numbers.
        if any(outcome.rule and not outcome.passed for outcome in outcomes) or has_broken_numbers(frame, contract):
            found = (
                check_table(marked, contract, others=others, partition=partition)
                if released is None
                else audit(marked.collect(), contract, others=others, partition=partition, released=released).report
            )
        aside: dict[str, RuleResult] = {}
        counts: dict[str, dict[str, int]] = {}
        if quarantine is not None:
            rows_aside = pl.read_parquet([*built.files(f"{name}{QUARANTINE}").values()], glob=False)
            rows_aside = _with_period(rows_aside, partition, built.calendar)
            aside = quarantine_findings(rows_aside, contract, rows=rows + rows_aside.height, partition=partition)
            counts = {rule: {"quarantined": finding.broken} for rule, finding in aside.items()}
        if released is not None:
            for rule, count in released_counts(frame.collect(), contract, released, others=others).items():
                counts.setdefault(rule, {})["released"] = count
        tested = {rule for uid, (_, rule) in self._rules.items() if uid in self._tests.get(model, ())}
        return report_of_tests(contract, outcomes, rows=rows, tested=tested, found=found, aside=aside), counts

    def _outcomes(self, built: Build, model: str) -> list[DbtTestOutcome]:
        """Return the outcomes of a model's tests that ran."""
        return [
            DbtTestOutcome(
                test=self.nodes[test.unique_id]["name"],
                rule=self._rules[test.unique_id][1] if test.unique_id in self._rules else None,
                passed=test.passed,
                is_blocking=test.is_blocking,
                failures=test.failures,
                message=test.message,
            )
            for test in built.tests
            if test.unique_id in self._tests.get(model, ())
        ]

    def _others(self, lake: Lake, built: Build, contract: TableContract) -> Others:
        """Return the columns that relationships refer to, as dbt read them: from this run, or from the lake."""
        wanted: dict[str, set[str]] = {}
        for rule in contract.rules:
            if rule.relationship is not None:
                wanted.setdefault(rule.relationship.table, set()).add(rule.relationship.column)
        found = {}
        for name, columns in wanted.items():
            uid = self._by_table[name]
            paths = [*built.files(self.nodes[uid]["name"]).values()] if uid in built.seconds else []
            refs = [it.ref for it in built.bound.get(uid, {}).values()]
            frames = [pl.scan_parquet(paths, glob=False)] if paths else []
            frames += [lake.scan(refs)] if refs else []
            if frames:
                found[name] = pl.concat([frame.select(sorted(columns)) for frame in frames])
        return found

    def reject(self, ledger: StepLedger, built: Build, model: str, report: Report) -> Sequence[str]:
        """Store a model's rejected days, as far as dbt wrote them, and return them."""
        name = self.nodes[model]["name"]
        refused = built.files(f"{name}{REJECTED}")
        if refused:
            making = ledger.origin(parameters={"broken_rules": [built.failed.get(model, "")]})
            rows = {day: pl.read_parquet(path) for day, path in refused.items()}
            store_rejected(ledger.lake, table_name(self.nodes[model]), rows, making)
            return [*refused]
        files = built.files(name) if model in built.seconds else {}
        everywhere = any(not finding.partitions for finding in report.blocking)
        broken = {day for finding in report.blocking for day in finding.partitions}
        days = {day: pl.read_parquet(path) for day, path in files.items() if everywhere or day in broken}
        if days:
            others = self._others(ledger.lake, built, report.contract)
            reject(ledger, table_key(name), days, report, others=others)
        return [*days]


def _with_period(frame: F, partition: str | None, calendar: Calendar) -> F:
    """Return a frame with the column of a row's partition."""
    return frame if partition is None else frame.with_columns(calendar.key_of_row().alias(partition))


def selected_results(
    context: dg.AssetExecutionContext,
    report: Report,
    key: dg.AssetKey,
    counts: Mapping[str, Mapping[str, int]],
    *,
    partitions: Sequence[str],
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of the checks that the run selects."""
    wanted = [it for it in report.findings if dg.AssetCheckKey(key, rule_check_name(it.rule)) in
              context.selected_asset_check_keys]  # fmt: skip
    yield from check_results(replace(report, findings=tuple(wanted)), key, counts, partitions=partitions)

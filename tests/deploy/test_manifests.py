"""The manifests that go beside the chart: who the pods are, and who may talk to whom."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.doctor.cluster import NEEDED
from ml_assets.doctor.network import LISTENS
from tests.deploy.kube import as_kubernetes_reads_it, kind_of

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


ACCESS, POLICIES = documents("access.yaml"), documents("network-policies.yaml")
VALUES = yaml.safe_load((DEPLOY / "values.yaml").read_text(encoding="utf-8"))


def policy(name: str) -> dict[str, Any]:
    return next(one["spec"] for one in POLICIES if one["metadata"]["name"] == name)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a label selector means a pod, as Kubernetes reads the operators used here."""
    for rule in selector.get("matchExpressions", ()):
        is_there = labels.get(rule["key"]) in rule["values"] if rule["operator"] == "In" else rule["key"] in labels
        if not is_there:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@pytest.mark.parametrize("document", [*ACCESS, *POLICIES], ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_each_manifest_has_only_fields_of_the_kubernetes_schema_with_their_types(document: dict[str, Any]) -> None:
    assert as_kubernetes_reads_it(document, kind_of(document)) == document


def test_a_field_that_kubernetes_does_not_know_would_be_seen() -> None:
    wrong = {**POLICIES[0], "spec": {"podSelektor": {}, "podSelector": {}}}

    assert as_kubernetes_reads_it(wrong, "V1NetworkPolicy") != wrong


def test_the_role_allows_what_doctor_checks_and_apart_from_that_only_reading() -> None:
    rules = next(one["rules"] for one in ACCESS if one["kind"] == "Role")
    allowed = {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    needed = {(group, resource, verb) for group, resource, verbs in NEEDED for verb in verbs}

    assert needed <= allowed
    assert {("batch", "jobs/status", "get"), ("", "pods/status", "get")} == allowed - needed


def test_the_role_is_bound_to_the_account_of_runs_and_not_to_that_of_code() -> None:
    bound = next(one["subjects"] for one in ACCESS if one["kind"] == "RoleBinding")
    accounts = {one["metadata"]["name"]: one for one in ACCESS if one["kind"] == "ServiceAccount"}

    assert [{"kind": "ServiceAccount", "name": VALUES["serviceAccount"]["name"]}] == bound
    assert {VALUES["serviceAccount"]["name"], VALUES["dagster-user-deployments"]["serviceAccount"]["name"]} == {
        *accounts
    }
    assert accounts["ml-assets-code"]["automountServiceAccountToken"] is False


def test_everything_is_refused_that_no_policy_allows() -> None:
    assert policy("ml-assets-nothing") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


ROLES = {
    "webserver": VALUES["dagsterWebserver"]["labels"],
    "daemon": VALUES["dagsterDaemon"]["labels"],
    "code": VALUES["dagster-user-deployments"]["deployments"][0]["labels"],
    "run": VALUES["runLauncher"]["config"]["customRunLauncher"]["config"]["labels"],
}


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("ml-assets-dns", {"webserver", "daemon", "code", "run"}),
        ("ml-assets-postgres", {"webserver", "daemon", "code", "run"}),
        ("ml-assets-outside", {"code", "daemon", "run"}),
        ("ml-assets-cluster", {"webserver", "daemon"}),
        ("ml-assets-webserver", {"webserver"}),
        ("ml-assets-code", {"code"}),
    ],
)
def test_each_policy_means_the_pods_that_carry_its_label_in_the_values(name: str, roles: set[str]) -> None:
    selector = policy(name)["podSelector"]

    assert roles == {role for role, labels in ROLES.items() if selects(selector, labels)}


def test_the_allowed_ports_are_those_that_the_values_open() -> None:
    webserver, code = policy("ml-assets-webserver")["ingress"], policy("ml-assets-code")["ingress"]

    assert [{"port": VALUES["dagsterWebserver"]["service"]["port"], "protocol": "TCP"}] == webserver[0]["ports"]
    assert [{"port": VALUES["dagster-user-deployments"]["deployments"][0]["port"], "protocol": "TCP"}] == code[0][
        "ports"
    ]


def test_no_pod_in_the_namespace_reaches_the_webserver() -> None:
    sources = [source for rule in policy("ml-assets-webserver")["ingress"] for source in rule["from"]]

    assert sources
    assert all("namespaceSelector" in source for source in sources)


@pytest.mark.parametrize("role", LISTENS)
def test_the_policies_allow_the_ports_on_which_doctor_expects_each_role(role: str) -> None:
    (policy,) = [one for one in POLICIES if one["metadata"]["name"] == f"ml-assets-{role}"]

    assert [LISTENS[role]] == [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]

"""The manifests of the prediction service: what Kubernetes accepts, and what the code of the service expects."""

import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from ml_assets.serving.http import OPEN_PATHS
from ml_assets.serving.request_log import LAST_SECONDS
from ml_assets.serving.server import GRACE_SECONDS
from tests.deploy.kube import as_kubernetes_reads_it, kind_of
from tests.deploy.test_manifests import DEPLOY, POLICIES, selects
from tests.golden_files import check_golden

FOLDER = DEPLOY / "serving"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS: list[dict[str, Any]] = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]
BY_KIND = {one["kind"]: one for one in OBJECTS}
POD = BY_KIND["Deployment"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]


@pytest.mark.parametrize("one", OBJECTS, ids=lambda it: str(it["kind"]))
def test_each_object_has_only_fields_of_the_kubernetes_schema_with_their_types(one: dict[str, Any]) -> None:
    assert as_kubernetes_reads_it(one, kind_of(one)) == one


def test_the_rendered_manifests_equal_the_golden_file() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; it renders the kustomization")

    rendered = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)

    check_golden("serving.yaml", rendered.stdout)


def test_all_objects_have_one_name_and_select_the_pods() -> None:
    assert {"ml-assets-serve"} == {one["metadata"]["name"] for one in OBJECTS}
    labels = POD["metadata"]["labels"]
    specs = {kind: one.get("spec", {}) for kind, one in BY_KIND.items()}
    selectors = [
        specs["Deployment"]["selector"], {"matchLabels": specs["Service"]["selector"]},
        specs["PodDisruptionBudget"]["selector"], specs["NetworkPolicy"]["podSelector"],
        POD["spec"]["topologySpreadConstraints"][0]["labelSelector"],
    ]  # fmt: skip
    assert all(it.get("matchLabels") and selects(it, labels) for it in selectors)
    target = specs["HorizontalPodAutoscaler"]["scaleTargetRef"]
    assert ("apps/v1", "Deployment", "ml-assets-serve") == (target["apiVersion"], target["kind"], target["name"])
    assert "replicas" not in specs["Deployment"], "each apply would undo what the autoscaler has decided"
    assert specs["HorizontalPodAutoscaler"]["minReplicas"] > specs["PodDisruptionBudget"]["maxUnavailable"]


def test_the_pods_pass_the_restricted_standard() -> None:
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]

    assert (True, 10001, "RuntimeDefault") == (pod["runAsNonRoot"], pod["runAsUser"], pod["seccompProfile"]["type"])
    assert {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    } == container  # fmt: skip
    assert not POD["spec"]["automountServiceAccountToken"]
    assert {"emptyDir"} == {key for volume in POD["spec"]["volumes"] for key in volume} - {"name"}


def test_probes_ask_paths_that_the_service_answers_without_a_token() -> None:
    paths = {name: CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}

    assert {"startup": "/live", "readiness": "/ready", "liveness": "/live"} == paths
    assert {*paths.values()} <= OPEN_PATHS


def test_a_pod_is_killed_only_after_its_requests_are_answered_and_its_log_is_written() -> None:
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])

    assert POD["spec"]["terminationGracePeriodSeconds"] > pause + GRACE_SECONDS + LAST_SECONDS


def test_the_port_of_the_command_is_that_of_the_container_and_of_the_network_policy() -> None:
    [port] = CONTAINER["ports"]
    [ingress] = BY_KIND["NetworkPolicy"]["spec"]["ingress"]

    assert port["containerPort"] == int(CONTAINER["args"][CONTAINER["args"].index("--port") + 1])
    assert [{"port": port["containerPort"], "protocol": "TCP"}] == ingress["ports"]
    assert [port["name"]] == [it["targetPort"] for it in BY_KIND["Service"]["spec"]["ports"]]


def test_the_pods_reach_dns_and_not_the_database() -> None:
    labels = POD["metadata"]["labels"]

    assert {"ml-assets-nothing", "ml-assets-dns"} == {
        one["metadata"]["name"] for one in POLICIES if selects(one["spec"]["podSelector"], labels)
    }


def test_its_image_is_the_one_of_the_chart() -> None:
    values = yaml.safe_load((DEPLOY / "values.yaml").read_text(encoding="utf-8"))
    [image] = KUSTOMIZATION["images"]

    assert CONTAINER["image"] == image["name"]
    assert values["dagsterDaemon"]["image"]["tag"] == image["newTag"]
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == image["newTag"]

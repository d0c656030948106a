from pathlib import Path
from typing import Final

import pytest
import yaml

from resources.doctor.checks import Finding
from resources.doctor.cluster import NEEDED, GpuNeed, cluster
from tests.resources.doctor.pretended import Pretended, node, pod, serving, write_kubeconfig

LAUNCHER: Final = {
    "service_account_name": "dagster", "instance_config_map": "instance", "dagster_home": "/home",
    "load_incluster_config": False, "postgres_password_secret": "pg", "env_secrets": ["s3"],
    "env_config_maps": ["settings"], "image_pull_secrets": [{"name": "registry"}], "job_image": "ml:1",
    "volumes": [{"name": "v", "secret": {"secretName": "certificates"}}],
}  # fmt: skip
ALL: Final = {
    "secrets/pg", "secrets/s3", "secrets/registry", "secrets/certificates", "configmaps/instance",
    "configmaps/settings", "serviceaccounts/dagster",
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "DAGSTER_CURRENT_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagster home whose launcher is Kubernetes'."""
    config = {**LAUNCHER, "kubeconfig_file": str(tmp_path / "kubeconfig"), "job_namespace": "ml"}
    launcher = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": config}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": launcher}))
    return tmp_path


def found(home: Path, double: Pretended, *gpus: GpuNeed) -> dict[str, Finding]:
    with serving(double, home / "kubeconfig"):
        return {one.check: one for one in cluster(str(home), gpus)}


def test_a_cluster_with_all_that_the_launcher_names_is_well(home: Path) -> None:
    double = Pretended(named=ALL, nodes=[node(gpus=2, images=("docker.io/library/ml:1",), product="H100")])

    told = found(home, double, GpuNeed("m/tuning", 2, product="H100"))

    assert {"cluster", "permissions", "secrets", "config maps", "service accounts", "image", "gpu"} == set(told)
    assert {"ok"} == {one.state for one in told.values()}
    assert "version v1.36.2, namespace ml" in told["cluster"].text


def test_nothing_is_said_of_a_cluster_where_none_is_configured(tmp_path: Path) -> None:
    assert [] == [*cluster(str(tmp_path), ())]


def test_what_a_secret_holds_is_never_fetched(home: Path) -> None:
    double = Pretended(named=ALL)

    found(home, double)

    forms = {form for _, path, form in double.asked if "/secrets/" in path}
    assert {"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"} == forms


def test_what_the_launcher_names_and_is_not_there_is_told(home: Path) -> None:
    told = found(home, Pretended(named=ALL - {"secrets/s3", "secrets/certificates", "serviceaccounts/dagster"}))

    assert ("wrong", "ok", "wrong") == tuple(
        told[kind].state for kind in ("secrets", "config maps", "service accounts")
    )
    assert "launcher names certificates, s3, and ml has none" in told["secrets"].text


def test_what_this_account_may_not_look_at_is_no_failure(home: Path) -> None:
    double = Pretended(named=ALL, forbidden=("/api/v1/namespaces/ml/secrets/", "/api/v1/nodes"))

    told = found(home, double, GpuNeed("m/model", 1))

    assert ("warning", "ok", "warning") == tuple(told[kind].state for kind in ("secrets", "config maps", "gpu"))


@pytest.mark.parametrize("missing", [f"{verb} {resource}" for _, resource, verbs in NEEDED for verb in verbs])
def test_each_permission_that_is_missing_is_told(home: Path, missing: str) -> None:
    told = found(home, Pretended(named=ALL, denied={missing}))["permissions"]

    assert ("wrong", f"this account may not {missing} in namespace ml.") == (told.state, told.text)
    assert "Role" in told.mend


@pytest.mark.parametrize(
    ("double", "state", "says"),
    [
        (Pretended(pods=[pod("docker.io/library/ml:1", running={})]), "ok", "is on a node"),
        (Pretended(pods=[pod("ml:1", waiting={"reason": "ErrImagePull"})]), "wrong", "cannot be pulled: ErrImagePull"),
        (Pretended(pods=[pod("ml:2", waiting={"reason": "ErrImagePull"})]), "warning", "seen on no node yet"),
    ],
)
def test_the_image_is_looked_for_on_nodes_and_in_pods(home: Path, double: Pretended, state: str, says: str) -> None:
    told = found(home, double)["image"]

    assert state == told.state
    assert says in told.text


@pytest.mark.parametrize(
    "nodes",
    [[], [node(gpus=1)], [node(gpus=4, closed=True)], [node(gpus=4, product="T4")]],
    ids=["none", "too few", "closed", "another"],
)
def test_a_gpu_that_no_node_can_give_is_told_with_the_stage(home: Path, nodes: list[object]) -> None:
    told = found(home, Pretended(nodes=nodes), GpuNeed("m/tuning", 2, product="H100"))["gpu"]  # type: ignore[arg-type]

    assert "wrong" == told.state
    assert "m/tuning asks for 2 nvidia.com/gpu (H100), and no node has that many" in told.text


def test_a_cluster_that_cannot_be_reached_is_told_once_with_its_mend(home: Path) -> None:
    write_kubeconfig(home / "kubeconfig", 1)

    (told,) = cluster(str(home), ())

    assert ("cluster", "wrong") == (told.check, told.state)
    assert "http://127.0.0.1:1 does not answer" in told.text
    assert "KUBECONFIG" in told.mend
    assert "open-sesame" not in told.text


def test_credentials_that_have_run_out_are_told(home: Path) -> None:
    told = found(home, Pretended(forbidden=("/version",)))["cluster"]

    assert "wrong" == told.state
    assert "says no: 403" in told.text


def test_a_kubeconfig_alone_is_looked_at_too(tmp_path: Path) -> None:
    told = found(tmp_path, Pretended())

    assert {"cluster": "ok", "permissions": "ok", "image": "warning"} == {name: one.state for name, one in told.items()}

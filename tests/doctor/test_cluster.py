import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.cluster import NEEDED, GpuNeed, cluster
from ml_assets.doctor.network import LISTENS
from tests.doctor.pretended import Pretended, listening, node, pod, serving, write_kubeconfig

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


def test_without_a_configured_cluster_there_is_no_finding_about_it(tmp_path: Path) -> None:
    assert [] == [*cluster(str(tmp_path), ())]


def test_the_content_of_a_secret_is_never_fetched(home: Path) -> None:
    double = Pretended(named=ALL)

    found(home, double)

    forms = {form for _, path, form in double.asked if "/secrets/" in path}
    assert {"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"} == forms


def test_objects_that_the_launcher_names_and_do_not_exist_are_reported(home: Path) -> None:
    told = found(home, Pretended(named=ALL - {"secrets/s3", "secrets/certificates", "serviceaccounts/dagster"}))

    assert ("wrong", "ok", "wrong") == tuple(
        told[kind].state for kind in ("secrets", "config maps", "service accounts")
    )
    assert "launcher names certificates, s3, missing in ml" in told["secrets"].text


def test_objects_that_this_account_may_not_read_are_no_failure(home: Path) -> None:
    double = Pretended(named=ALL, forbidden=("/api/v1/namespaces/ml/secrets/", "/api/v1/nodes"))

    told = found(home, double, GpuNeed("m/model", 1))

    assert ("warning", "ok", "warning") == tuple(told[kind].state for kind in ("secrets", "config maps", "gpu"))


def test_an_unreadable_object_exists_if_pods_that_name_it_run(home: Path) -> None:
    spec = {
        "serviceAccountName": "dagster",
        "volumes": [{"configMap": {"name": "instance"}}, {"secret": {"secretName": "certificates"}}, {"emptyDir": {}}],
        "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "pg", "key": "password"}}}]}],
        "containers": [
            {"envFrom": [{"secretRef": {"name": "s3"}}, {"configMapRef": {"name": "settings", "optional": True}}]},
            {"env": [{"name": "TZ", "value": "UTC"}]},
        ],
    }  # fmt: skip
    pods = [
        {**pod(), "spec": spec},
        {**pod(), "spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}]}]}},
    ]
    pods[0]["status"]["phase"], pods[1]["status"]["phase"] = "Running", "Succeeded"
    places = tuple(f"/api/v1/namespaces/ml/{kind}/" for kind in ("secrets", "configmaps", "serviceaccounts"))

    told = found(home, Pretended(pods=pods, forbidden=places))

    assert "whether registry exist is unknown" in told["secrets"].text
    assert "whether settings exist is unknown" in told["config maps"].text
    assert ("ok", "dagster: exist, because running pods use them.") == (
        told["service accounts"].state, told["service accounts"].text,
    )  # fmt: skip


@pytest.mark.parametrize("missing", [f"{verb} {resource}" for _, resource, verbs in NEEDED for verb in verbs])
def test_each_missing_permission_is_reported(home: Path, missing: str) -> None:
    told = found(home, Pretended(named=ALL, denied={missing}))["permissions"]

    assert ("wrong", f"this account may not {missing} in namespace ml.") == (told.state, told.text)
    assert "Role" in told.fix


def test_an_account_that_may_not_list_pods_is_reported_and_everything_else_is_still_checked(home: Path) -> None:
    double = Pretended(named=ALL, denied={"list pods"}, forbidden=("/api/v1/namespaces/ml/pods",))

    told = found(home, double)

    assert {"cluster", "permissions", "secrets", "config maps", "service accounts", "image"} == set(told)
    assert "may not list pods" in told["permissions"].text


@pytest.mark.parametrize(
    ("double", "state", "says"),
    [
        (Pretended(pods=[pod("docker.io/library/ml:1", running={})]), "ok", "is on a node"),
        (Pretended(pods=[pod("ml:1", waiting={"reason": "ErrImagePull"})]), "wrong", "cannot be pulled: ErrImagePull"),
        (Pretended(pods=[pod("ml:2", waiting={"reason": "ErrImagePull"})]), "warning", "on no visible node yet"),
    ],
)
def test_the_image_is_searched_on_nodes_and_in_pods(home: Path, double: Pretended, state: str, says: str) -> None:
    told = found(home, double)["image"]

    assert state == told.state
    assert says in told.text


def test_the_image_is_the_code_locations_where_nothing_else_names_one(home: Path) -> None:
    settings = yaml.safe_load((home / "dagster.yaml").read_text())
    del settings["run_launcher"]["config"]["job_image"]
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    code = {**pod("ml:3", running={}), "spec": {"containers": [{"image": "docker.io/library/ml:3"}]}}
    code["metadata"]["labels"] = {"ml-assets/role": "code"}

    assert "warning" == found(home, Pretended())["image"].state
    assert "docker.io/library/ml:3 is on a node." == found(home, Pretended(pods=[code]))["image"].text


@pytest.mark.parametrize(
    "nodes",
    [[], [node(gpus=1)], [node(gpus=4, closed=True)], [node(gpus=4, product="T4")]],
    ids=["none", "too few", "closed", "another"],
)
def test_a_gpu_that_no_node_has_is_reported_with_the_stage(home: Path, nodes: list[object]) -> None:
    told = found(home, Pretended(nodes=nodes), GpuNeed("m/tuning", 2, product="H100"))["gpu"]  # type: ignore[arg-type]

    assert "wrong" == told.state
    assert "m/tuning requests 2 nvidia.com/gpu (H100), and no node has that many" in told.text


OWN: Final = pod(name=socket.gethostname())
CLOSED: Final = 1
"""A port without a listener."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server, as a pod has one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_webserver_that_answers_another_pod_is_reported_because_the_ui_is_unprotected(home: Path, port: int) -> None:
    told = found(home, Pretended(pods=[OWN, listening("webserver", port)]))["network policies"]

    assert "warning" == told.state
    assert f"127.0.0.1:{port} answers" in told.text
    assert "deploy/network-policies.yaml" in told.fix


def test_a_webserver_that_does_not_answer_although_the_code_location_does_is_protected_by_policies(
    home: Path, port: int
) -> None:
    pods = [OWN, listening("webserver", CLOSED), listening("webserver", port, is_ready=False), listening("code", port)]

    assert "ok" == found(home, Pretended(pods=pods))["network policies"].state


def test_a_code_location_without_a_port_is_checked_at_the_port_that_the_policies_allow(
    home: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LISTENS, "code", port)
    pods = [OWN, listening("webserver", CLOSED), listening("code", None)]

    assert "ok" == found(home, Pretended(pods=pods))["network policies"].state


@pytest.mark.parametrize("code", [[], [listening("code", CLOSED)]], ids=["is not there", "is silent too"])
def test_a_silent_web_server_shows_nothing_of_policies_where_the_code_location(home: Path, code: list[object]) -> None:
    told = found(home, Pretended(pods=[OWN, listening("webserver", CLOSED), *code]))["network policies"]

    assert ("warning", "Run the doctor in the daemon's pod") == (told.state, told.fix[:34])
    assert "is unknown" in told.text


def test_policies_are_not_judged_outside_the_cluster_or_without_another_webserver(home: Path, port: int) -> None:
    other, not_ready = listening("webserver", port), listening("webserver", port, is_ready=False)
    mine = listening("webserver", port, name=socket.gethostname())

    for pods in ([other], [OWN], [OWN, not_ready], [mine]):
        assert "network policies" not in found(home, Pretended(pods=pods))


def test_an_unreachable_cluster_is_reported_once_with_its_fix(home: Path) -> None:
    write_kubeconfig(home / "kubeconfig", 1)

    (told,) = cluster(str(home), ())

    assert ("cluster", "wrong") == (told.check, told.state)
    assert "http://127.0.0.1:1 does not respond" in told.text
    assert "KUBECONFIG" in told.fix
    assert "open-sesame" not in told.text


def test_expired_credentials_are_reported(home: Path) -> None:
    told = found(home, Pretended(forbidden=("/version",)))["cluster"]

    assert "wrong" == told.state
    assert "refused a request: 403" in told.text


def test_a_kubeconfig_alone_is_checked_too(tmp_path: Path) -> None:
    told = found(tmp_path, Pretended())

    assert {"cluster": "ok", "permissions": "ok", "image": "warning"} == {name: one.state for name, one in told.items()}

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.cluster import NEEDED, GpuNeed, cluster
from ml_assets.doctor.network import LISTENS
from tests.doctor.pretended import Pretended, listening, node, pod, serving
from tests.http_server import write_kubeconfig

LAUNCHER: Final = {
    "service_account_name": "dagster", "instance_config_map": "instance", "dagster_home": "/home",
    "load_incluster_config": False, "job_image": "ml:1",
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


def test_a_cluster_that_can_run_the_project_is_ok(home: Path) -> None:
    told = found(home, Pretended(nodes=[node(gpus=2, product="H100")]), GpuNeed("m/tuning", 2, product="H100"))

    assert {"cluster": "ok", "permissions": "ok", "jobs": "ok", "gpu": "ok", "network policies": "not checked"} == {
        name: one.state for name, one in told.items()
    }
    assert "version v1.36.2, namespace ml" in told["cluster"].text


@pytest.mark.parametrize("settings", [None, "", "telemetry: {enabled: false}", "run_launcher: {class: A}", "[1]"])
def test_without_a_kubernetes_launcher_there_is_no_finding_about_a_cluster(
    tmp_path: Path, settings: str | None
) -> None:
    if settings is not None:
        (tmp_path / "dagster.yaml").write_text(settings)

    assert [] == [*cluster(str(tmp_path), ())]


def test_suspended_jobs_are_a_warning(home: Path) -> None:
    jobs = [{"metadata": {"name": name}, "spec": {"suspend": name == "waits"}} for name in ("runs", "waits")]

    told = found(home, Pretended(jobs=jobs))["jobs"]

    assert ("warning", True) == (told.state, "1 jobs are suspended and do not start, such as waits" in told.text)


@pytest.mark.parametrize(
    ("path", "check"),
    [("/api/v1/nodes", "gpu"), ("/apis/batch/v1/namespaces/ml/jobs", "jobs"),
     ("/api/v1/namespaces/ml/pods", "network policies")],
)  # fmt: skip
def test_what_this_account_may_not_list_is_not_checked(home: Path, path: str, check: str) -> None:
    told = found(home, Pretended(forbidden=(path,)), GpuNeed("m/model", 1))

    assert "not checked" == told[check].state
    assert {"cluster", "permissions", "jobs", "gpu", "network policies"} == told.keys()


@pytest.mark.parametrize("missing", [f"{verb} {resource}" for _, resource, verbs in NEEDED for verb in verbs])
def test_each_missing_permission_is_reported(home: Path, missing: str) -> None:
    told = found(home, Pretended(denied={missing}))["permissions"]

    assert ("wrong", f"this account may not {missing} in namespace ml.") == (told.state, told.text)
    assert "Role" in told.fix


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


A, B = "a" * 64, "b" * 64


def running(role: str, image: str, digest: str = A, **status: object) -> dict[str, object]:
    return {
        "metadata": {"name": role, "labels": {"ml-assets/role": role}},
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {"containerStatuses": [{"name": "main", "imageID": f"registry/ml@sha256:{digest}"}], **status},
    }


@pytest.mark.parametrize(("pods", "state", "words"), [
    ([running("webserver", "ml:1"), running("daemon", "ml:1"), running("code", "ml:1")], "ok",
     "all pods of the release have ml:1. It is named by tag"),
    ([running("webserver", f"ml:1@sha256:{A}"), running("code", f"ml:1@sha256:{A}")], "ok", f"ml:1@sha256:{A}."),
    ([running("webserver", "ml:1"), running("daemon", "ml:1"), running("code", "ml:2", B)], "wrong",
     "webserver: ml:1 (aaaaaaaaaaaa); daemon: ml:1 (aaaaaaaaaaaa); code: ml:2 (bbbbbbbbbbbb)."),
    ([running("webserver", "ml:1"), running("code", "ml:1", B)], "wrong", "because the tag was moved"),
    ([running("code", "ml:1"), running("run", "ml:0", B), running("daemon", "ml:0", B, phase="Failed")], "ok",
     "all pods of the release have ml:1."),
])  # fmt: skip
def test_the_images_of_a_release_are_compared_by_name_and_by_content(
    home: Path, pods: list[object], state: str, words: str
) -> None:
    told = found(home, Pretended(pods=pods))["images"]

    assert (state, True) == (told.state, words in told.text)


def test_outside_a_release_nothing_is_said_of_images(home: Path) -> None:
    assert "images" not in found(home, Pretended(pods=[pod("other")]))


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

    assert ("not checked", "Run the doctor in the daemon's pod") == (told.state, told.fix[:34])


def test_policies_are_not_checked_outside_the_cluster_or_without_another_webserver(home: Path, port: int) -> None:
    other, not_ready = listening("webserver", port), listening("webserver", port, is_ready=False)
    mine = listening("webserver", port, name=socket.gethostname())

    assert "not checked" == found(home, Pretended(pods=[other]))["network policies"].state
    for pods in ([OWN], [OWN, not_ready], [mine]):
        assert "network policies" not in found(home, Pretended(pods=pods))


def test_an_unreachable_cluster_is_reported_once_with_its_fix(home: Path) -> None:
    write_kubeconfig(home / "kubeconfig", 1)

    (told,) = cluster(str(home), ())

    assert ("cluster", "wrong") == (told.check, told.state)
    assert "the Kubernetes API cannot be reached" in told.text
    assert "port=1" in told.text
    assert "kubeconfig_file" in told.fix
    assert "open-sesame" not in told.text


def test_expired_credentials_are_reported(home: Path) -> None:
    told = found(home, Pretended(forbidden=("/version",)))["cluster"]

    assert "wrong" == told.state
    assert "refused a request: 403" in told.text

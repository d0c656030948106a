"""A deployment in a real cluster, whose pods are taken away while it trains.

It needs what docs/deploy.md says, and is skipped without. The model trains over and over as of one day, so its lake
must have features and labels up to that day.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import kubernetes
import kubernetes.stream
import pytest

from ml_assets.cli.flow.dagster_server import DagsterServer, ServerEvent
from ml_assets.lake.store import Lake
from ml_assets.names import CAUSE, MODEL
from tests.cluster.needs import NEEDED, OUTAGE, given

TRAINING: Final = ("training_set", "importances", "tuning", "model", "evaluation", "champion")
SECONDS: Final = 600

pytestmark = [
    pytest.mark.skipif(not given(), reason=f"no cluster: {', '.join(NEEDED)} must be set; see docs/deploy.md"),
    pytest.mark.timeout(2 * SECONDS),
]


class Deployment:
    """A deployment of the project: its webserver, its namespace, its lake."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        kubernetes.config.load_kube_config(environment["KUBECONFIG"])
        self.core = kubernetes.client.CoreV1Api()
        self.server = DagsterServer(environment["TEST_CLUSTER_SERVER"])
        self.lake = Lake(environment["TEST_CLUSTER_LAKE"])
        self.namespace = environment["TEST_CLUSTER_NAMESPACE"]
        self.model = environment.get("TEST_CLUSTER_MODEL", "flight_delay")
        self.as_of = environment.get("TEST_CLUSTER_AS_OF", "2013-04-20")

    def launch(self) -> str:
        """Launch a training with a new study, and return the run's id."""
        for study in self.lake.names(self.lake.path("studies", self.model)):
            self.lake.remove(self.lake.path("studies", self.model, study))
        return self.server.launch(
            [(self.model, stage) for stage in TRAINING],
            tags={CAUSE: "a test of the cluster", MODEL: self.model},
            run_config={"ops": {f"{self.model}__training_set": {"config": {"as_of": self.as_of}}}},
        )

    def pods(self, run_id: str, **labels: str) -> list[Any]:
        """Return the pods of a run that are at work."""
        selector = ",".join(f"{name}={value}" for name, value in {"dagster/run-id": run_id, **labels}.items())
        found = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        return [pod for pod in found if pod.status.phase in {"Pending", "Running"}]

    def step_pod(self, run_id: str, stage: str) -> str:
        """Return the pod of a step, as soon as it runs."""
        return self._running(lambda: self.pods(run_id, **{"dagster/op": f"{self.model}__{stage}"}))

    def run_pod(self, run_id: str) -> str:
        """Return the pod of a run, as soon as it runs."""
        return self._running(lambda: self.pods(run_id, **{"app.kubernetes.io/component": "run_worker"}))

    def _running(self, look: Callable[[], list[Any]]) -> str:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for pod in look():
                if pod.status.phase == "Running":
                    return str(pod.metadata.name)
            time.sleep(0.5)
        raise AssertionError("no such pod came to run")

    def delete(self, pod: str) -> None:
        """Take a pod away at once."""
        self.core.delete_namespaced_pod(pod, self.namespace, grace_period_seconds=0)

    def evict(self, pod: str) -> None:
        """Request a pod's eviction, as a drain does."""
        body = kubernetes.client.V1Eviction(metadata=kubernetes.client.V1ObjectMeta(name=pod, namespace=self.namespace))
        self.core.create_namespaced_pod_eviction(pod, self.namespace, body)

    def cancel(self, run_id: str) -> None:
        """Cancel a run as the UI does."""
        self.server._post(
            "mutation Cancel($run: String!) { terminateRun(runId: $run) { __typename } }", {"run": run_id}
        )

    def ended(self, run_id: str) -> tuple[bool, list[ServerEvent]]:
        """Wait for a run, and return whether it succeeded, and its events."""
        *events, end = self.server.follow(run_id)
        assert isinstance(end, bool)
        return end, [it for it in events if isinstance(it, ServerEvent)]

    def version(self) -> str:
        """Return the version of the model that was trained last."""
        return self.lake.find(f"{self.model}/model").version


@pytest.fixture(scope="module")
def it() -> Deployment:
    return Deployment(os.environ)


@pytest.fixture(scope="module")
def undisturbed(it: Deployment) -> str:
    """The model of an undisturbed training."""
    is_well, events = it.ended(it.launch())
    assert is_well, events[-1]
    return it.version()


@pytest.fixture
def run(it: Deployment, undisturbed: str) -> Iterator[str]:
    """A training that has begun."""
    run_id = it.launch()
    yield run_id
    it.ended(run_id)


@pytest.mark.parametrize("take", [Deployment.delete, Deployment.evict])
def test_a_step_whose_pod_is_evicted_is_retried_and_gives_the_same_model(
    it: Deployment, undisturbed: str, run: str, take: Callable[[Deployment, str], None]
) -> None:
    take(it, it.step_pod(run, "tuning"))

    is_well, events = it.ended(run)

    assert is_well
    assert [f"{it.model}__tuning"] == [one.step for one in events if one.kind == "ExecutionStepUpForRetryEvent"]
    assert undisturbed == it.version()


def test_a_run_whose_pod_is_evicted_continues_in_another_and_gives_the_same_model(
    it: Deployment, undisturbed: str, run: str
) -> None:
    first = it.run_pod(run)
    it.step_pod(run, "tuning")
    it.delete(first)

    is_well, _ = it.ended(run)

    assert is_well
    assert undisturbed == it.version()


@pytest.mark.skipif(OUTAGE not in os.environ, reason=f"{OUTAGE} names no command that takes the cluster's API away")
def test_a_run_during_which_the_api_is_away_starts_its_steps_after_it_and_gives_the_same_model(
    it: Deployment, undisturbed: str, run: str
) -> None:
    it.run_pod(run)
    subprocess.run(shlex.split(os.environ[OUTAGE]), check=True)

    is_well, events = it.ended(run)

    assert is_well
    assert [] == [one.step for one in events if one.kind == "ExecutionStepUpForRetryEvent"]
    assert undisturbed == it.version()


def test_a_cancelled_run_leaves_no_pod_behind(it: Deployment, run: str) -> None:
    it.step_pod(run, "tuning")

    it.cancel(run)

    is_well, _ = it.ended(run)
    assert not is_well
    until = time.monotonic() + SECONDS
    while it.pods(run) and time.monotonic() < until:
        time.sleep(1)
    assert [] == [pod.metadata.name for pod in it.pods(run)]


def has_token(pod: Any) -> bool:
    """Whether a pod can call the cluster's API with a token that Kubernetes mounts."""
    return any(volume.name.startswith("kube-api-access-") for volume in pod.spec.volumes)


def test_no_pod_runs_as_root_or_with_more_than_it_needs(it: Deployment, run: str) -> None:
    it.step_pod(run, "tuning")
    pods = it.core.list_namespaced_pod(it.namespace).items
    steps = [pod for pod in pods if (pod.metadata.labels or {}).get("app.kubernetes.io/component") == "step_worker"]
    code = [pod for pod in pods if (pod.metadata.labels or {}).get("ml-assets/role") == "code"]

    assert steps
    assert code
    assert [] == [pod.metadata.name for pod in pods if not pod.spec.security_context.run_as_non_root]
    for container in (one for pod in pods for one in pod.spec.containers):
        security = container.security_context
        assert (True, False, ["ALL"]) == (
            security.read_only_root_filesystem, security.allow_privilege_escalation, security.capabilities.drop,
        )  # fmt: skip
    assert [] == [pod.metadata.name for pod in (*steps, *code) if has_token(pod)]


def test_the_doctor_finds_nothing_wrong_in_the_daemons_pod(it: Deployment) -> None:
    daemons = it.core.list_namespaced_pod(it.namespace, label_selector="ml-assets/role=daemon").items
    (daemon,) = [pod.metadata.name for pod in daemons if pod.metadata.deletion_timestamp is None]

    command = kubernetes.stream.stream(
        it.core.connect_get_namespaced_pod_exec, daemon, it.namespace, command=["ml-assets", "doctor", "--json"],
        stdout=True, stderr=False, stdin=False, tty=False, _preload_content=False,
    )  # fmt: skip
    command.run_forever(timeout=SECONDS)
    findings = json.loads(command.read_all())["findings"]
    command.sock.shutdown()  # its own `close` leaves the socket where the other side has closed first

    assert {"lake", "dagster", "daemon", "permissions", "jobs"} <= {one["check"] for one in findings}
    assert [] == [one for one in findings if one["state"] == "wrong"]

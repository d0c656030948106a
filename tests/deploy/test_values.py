"""The values for Dagster's chart: what they make of pods, of Dagster's instance, and of who gets in."""

import importlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dagster import Shape, instance_for_test
from dagster_k8s import construct_dagster_k8s_job
from kubernetes.client import ApiClient
from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME

from ml_assets.kubernetes.client import OUTAGE_SECONDS, PAUSE_SECONDS
from ml_assets.kubernetes.quantity import bytes_of
from tests.adapters.dagster import dagster_instance_config, process_config
from tests.adapters.dagster_daemon import create_run_for_test
from tests.deploy.kube import as_kubernetes_reads_it
from tests.http_server import write_kubeconfig

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/values.yaml").read_text(encoding="utf-8"))
CODE = VALUES["dagster-user-deployments"]["deployments"][0]
LAUNCHER = VALUES["runLauncher"]["config"]["customRunLauncher"]
WORKLOADS = {"webserver": VALUES["dagsterWebserver"], "daemon": VALUES["dagsterDaemon"], "code": CODE}
ACCOUNT = str(Path(SERVICE_TOKEN_FILENAME).parent)
NAMED_BY_LAUNCHER = ".runLauncher.config.customRunLauncher.config.postgres_password_secret"


@pytest.fixture(scope="module")
def run_pod(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return the pod that the launcher of the values would create for a run, without a cluster."""
    folder = tmp_path_factory.mktemp("launcher")
    write_kubeconfig(folder / "kubeconfig", 9)
    found = getattr(importlib.import_module(LAUNCHER["module"]), LAUNCHER["class"])
    given = {**LAUNCHER["config"], "load_incluster_config": False, "kubeconfig_file": str(folder / "kubeconfig")}
    config = process_config(Shape(found.config_type()), given)
    assert config.success, [error.message for error in config.errors or ()]
    launcher = found.from_config_value(None, config.value)
    with instance_for_test(temp_dir=str(folder)) as instance:
        context = launcher.get_container_context_for_run(create_run_for_test(instance))
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config("ml-assets:0", launcher),
        args=["dagster", "api", "execute_run"],
        job_name="run",
        user_defined_k8s_config=context.run_k8s_config,
        component="run_worker",
    )
    return dict(ApiClient().sanitize_for_serialization(job)["spec"]["template"]["spec"])


def assert_is_confined(pod: Mapping[str, Any], container: Mapping[str, Any]) -> None:
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert not container.get("privileged")


def pairs(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return every leaf of a tree, with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from pairs(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from pairs(inner, f"{path}[{number}]")
    else:
        yield path, value


@pytest.mark.parametrize("name", [*WORKLOADS, "run"])
def test_no_pod_is_root_and_each_has_requests_and_a_limit_of_memory(name: str, run_pod: Mapping[str, Any]) -> None:
    if name == "run":
        pod, (container,) = run_pod["securityContext"], run_pod["containers"]
    else:
        pod, container = WORKLOADS[name]["podSecurityContext"], WORKLOADS[name]

    assert_is_confined(pod, container["securityContext"])
    assert {"cpu", "memory", "ephemeral-storage"} == {*container["resources"]["requests"]}
    assert {"memory", "ephemeral-storage"} == {*container["resources"]["limits"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_write_to_volumes_only(name: str) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in WORKLOADS[name]["volumeMounts"]}

    assert {"/tmp", VALUES["global"]["dagsterHome"]} == {*mounts} - {ACCOUNT}  # noqa: S108 - the path inside a pod
    assert {*mounts.values()} == {volume["name"] for volume in WORKLOADS[name]["volumes"]}


def test_the_code_location_has_an_empty_folder_where_the_chart_mounts_a_token() -> None:
    mounted = {mount["mountPath"]: mount["name"] for mount in CODE["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in CODE["volumes"]}

    assert {"name": "no-token", "emptyDir": {"sizeLimit": "1Mi"}} == volumes[mounted[ACCOUNT]]


def test_runs_write_to_volumes_only(run_pod: Mapping[str, Any]) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in run_pod["containers"][0]["volumeMounts"]}

    assert {"/tmp", LAUNCHER["config"]["dagster_home"]} <= {*mounts}  # noqa: S108 - the path inside a pod
    assert {*mounts.values()} == {volume["name"] for volume in run_pod["volumes"]}


def test_a_run_has_an_account_of_its_own_with_a_token_for_the_jobs_of_its_steps(run_pod: Mapping[str, Any]) -> None:

    account = run_pod["serviceAccountName"], run_pod["automountServiceAccountToken"]
    assert (VALUES["serviceAccount"]["name"], True) == account
    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": False}
    assert VALUES["dagster-user-deployments"]["serviceAccount"] == {"create": False, "name": "ml-assets-code"}


def test_a_runs_environment_takes_secrets_from_secrets_only(run_pod: Mapping[str, Any]) -> None:
    container = run_pod["containers"][0]
    plain = {one["name"] for one in container["env"] if "value" in one}
    sources = {one["name"]: one["valueFrom"] for one in container["env"] if "valueFrom" in one}
    referred = {name: it["secretKeyRef"]["name"] for name, it in sources.items() if "secretKeyRef" in it}

    assert {"DAGSTER_HOME"} == plain
    assert {"ML_ASSETS_POD_MILLICORES", "ML_ASSETS_POD_MEMORY_BYTES"} == {*sources} - {*referred}
    assert {"DAGSTER_PG_PASSWORD": VALUES["global"]["postgresqlSecretName"]} == referred
    assert ["ml-assets-secrets"] == [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]


def test_no_value_is_a_secret() -> None:
    kinds = ("password", "token", "secret", "key")
    found = {path: it for path, it in pairs(VALUES) if path.lower().endswith(kinds) and isinstance(it, str)}

    assert {".postgresql.postgresqlPassword": "", NAMED_BY_LAUNCHER: VALUES["global"]["postgresqlSecretName"]} == found


def test_the_code_location_and_its_runs_have_the_same_settings(run_pod: Mapping[str, Any]) -> None:
    sources = run_pod["containers"][0]["envFrom"]

    assert [one["name"] for one in CODE["envConfigMaps"]] == [
        one["configMapRef"]["name"] for one in sources if "configMapRef" in one
    ]
    assert [one["name"] for one in CODE["envSecrets"]] == [
        one["secretRef"]["name"] for one in sources if "secretRef" in one
    ]


def test_all_run_the_image_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert [{"repository": "ml-assets", "tag": version, "pullPolicy": "IfNotPresent"}] * 3 == [
        workload["image"] for workload in WORKLOADS.values()
    ]


KINDS = {
    "podSecurityContext": "V1PodSecurityContext", "securityContext": "V1SecurityContext",
    "resources": "V1ResourceRequirements", "initContainerResources": "V1ResourceRequirements",
    "volumes": "list[V1Volume]", "volumeMounts": "list[V1VolumeMount]", "envSecrets": "list[V1SecretEnvSource]",
    "envConfigMaps": "list[V1ConfigMapEnvSource]", "livenessProbe": "V1Probe", "readinessProbe": "V1Probe",
    "startupProbe": "V1Probe",
}  # fmt: skip


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, w in WORKLOADS.items() for f in KINDS if f in w])
def test_values_passed_to_kubernetes_unchanged_have_only_fields_of_its_schema(name: str, field: str) -> None:
    value = WORKLOADS[name][field]
    if field.endswith("Probe"):
        value = {key: inner for key, inner in value.items() if key != "enabled"}  # the chart's own

    assert as_kubernetes_reads_it(value, KINDS[field]) == value


POSTGRES = {
    "hostname": VALUES["postgresql"]["postgresqlHost"], "username": VALUES["postgresql"]["postgresqlUsername"],
    "password": {"env": "DAGSTER_PG_PASSWORD"}, "db_name": VALUES["postgresql"]["postgresqlDatabase"],
    "port": VALUES["postgresql"]["service"]["port"], "params": VALUES["postgresql"]["postgresqlParams"],
}  # fmt: skip


@pytest.fixture
def instance_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Return what Dagster reads of the file that the chart writes: its own keys first, the additional ones last."""
    chart = {
        "event_log_storage": {
            "module": "dagster_postgres.event_log", "class": "PostgresEventLogStorage",
            "config": {"postgres_db": POSTGRES},
        },
        "run_launcher": LAUNCHER,
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": {
            "pools": {"default_limit": VALUES["concurrency"]["pools"]["defaultLimit"],
                      "granularity": VALUES["concurrency"]["pools"]["granularity"]},
            "runs": {"max_concurrent_runs": VALUES["concurrency"]["runs"]["maxConcurrentRuns"]},
        },
    }  # fmt: skip
    text = yaml.safe_dump(chart) + yaml.safe_dump(VALUES["additionalInstanceConfig"])
    (tmp_path / "dagster.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "not-a-secret")
    config, _ = dagster_instance_config(str(tmp_path))  # raises where the queue's own limits stand beside the pools
    return config


def test_our_event_log_comes_last_and_so_replaces_the_charts(instance_config: Mapping[str, Any]) -> None:
    config = instance_config["event_log_storage"]
    found = getattr(importlib.import_module(config["module"]), config["class"])

    assert "BatchingPostgresEventLogStorage" == config["class"]
    assert POSTGRES == config["config"]["postgres_db"]
    assert process_config(Shape(found.config_type()), config["config"]).success


def test_the_queue_is_polled_each_second_and_its_limits_are_those_of_the_pools(
    instance_config: Mapping[str, Any],
) -> None:
    queue = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    # What the chart's defaults set must be emptied here, or it writes max_concurrent_runs and Dagster does not start.
    assert {"dequeueUseThreads": False, "dequeueNumWorkers": 0} == queue
    assert {"dequeue_interval_seconds": 1} == instance_config["run_coordinator"]["config"]
    assert {"default_limit": 4, "granularity": "run"} == instance_config["concurrency"]["pools"]


def test_lost_runs_are_resumed_and_failures_of_the_code_are_not_retried() -> None:
    daemon = VALUES["dagsterDaemon"]

    assert daemon["runMonitoring"]["enabled"]
    assert daemon["runMonitoring"]["maxResumeRunAttempts"] > 0
    assert {"enabled": True, "maxRetries": 3, "retryOnAssetOrOpFailure": False} == daemon["runRetries"]
    assert (CODE["envConfigMaps"], CODE["envSecrets"]) == (daemon["envConfigMaps"], daemon["envSecrets"])


def test_the_ui_requires_a_login_at_a_proxy_and_uses_tls() -> None:
    ingress = VALUES["ingress"]

    assert {"auth-url", "auth-signin"} <= {name.rpartition("/")[2] for name in ingress["annotations"]}
    assert all(ingress["annotations"].values())
    assert ingress["dagsterWebserver"]["tls"]["enabled"]


def test_the_page_names_what_the_deployments_runs_and_steps_of_the_example_request() -> None:
    page = " ".join((ROOT / "docs/deploy.md").read_text(encoding="utf-8").split())
    declared = yaml.safe_load((ROOT / "defs/flight_delay/defs.yaml").read_text(encoding="utf-8"))
    step = declared["attributes"]["compute"]["tuning"]
    standing = [it["resources"]["requests"] for it in WORKLOADS.values()]
    run = LAUNCHER["config"]["resources"]["requests"]
    millicores = sum(int(it["cpu"].removesuffix("m")) for it in standing)
    gibibytes = sum(bytes_of(it["memory"]) for it in standing) / 2**30

    assert f"request {millicores / 1000:g} CPU and {gibibytes:g} GiB of memory together" in page
    assert f"each run {run['cpu']} CPU and {run['memory'].removesuffix('Gi')} GiB" in page
    assert f"{step['cpu']} CPUs and {step['memory'].removesuffix('Gi')} GiB in the example" in page
    assert f"needs {millicores // 1000 + int(run['cpu']) + int(step['cpu'])} CPUs" in page


def test_a_request_that_dagster_sends_four_times_ends_before_the_daemon_counts_as_dead() -> None:
    assert 4 * OUTAGE_SECONDS + 3 * PAUSE_SECONDS < VALUES["dagsterDaemon"]["heartbeatTolerance"]


def test_the_chart_grants_no_permission_and_dagster_sends_no_telemetry() -> None:
    assert (False, False) == (VALUES["rbacEnabled"], VALUES["dagster-user-deployments"]["rbacEnabled"])
    assert (False, False) == (VALUES["telemetry"]["enabled"], VALUES["additionalInstanceConfig"]["nux"]["enabled"])


PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")


def test_the_page_installs_the_chart_of_the_locks_dagster() -> None:
    lock = (ROOT / "deploy/requirements.lock").read_text(encoding="utf-8")
    dagster = re.search(r"^dagster==(\S+)", lock, re.MULTILINE)

    assert dagster is not None
    assert {dagster[1]} == {*re.findall(r"--version (\S+)", PAGE)}
    assert f"release {dagster[1]}" in (ROOT / "deploy/values.yaml").read_text(encoding="utf-8")


def test_the_deployment_page_creates_each_secret_and_setting_that_the_values_name() -> None:
    made = {*re.findall(r"create (?:secret \w+|configmap) (\S+)", PAGE)}

    assert made == {
        VALUES["global"]["postgresqlSecretName"],
        VALUES["ingress"]["dagsterWebserver"]["tls"]["secretName"],
        *LAUNCHER["config"]["env_secrets"],
        *LAUNCHER["config"]["env_config_maps"],
        "ml-assets-serve",  # of deploy/serving
    }


CHART = os.environ.get("DAGSTER_CHART")


def merged(under: Any, over: Any) -> Any:
    """Return values over the chart's, as Helm lays them: maps by key, anything else whole, null takes away."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    both = {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}
    return {key: value for key, value in both.items() if value is not None or key not in over}


def without_remote(schema: Any) -> Any:
    """Return a schema without what it refers to elsewhere: those are Kubernetes' own types, tested above."""
    if isinstance(schema, list):
        return [without_remote(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: without_remote(v) for k, v in schema.items() if not (k == "$ref" and str(v).startswith("http"))}


@pytest.mark.skipif(CHART is None, reason="DAGSTER_CHART names no folder with the official chart, unpacked")
def test_the_values_follow_the_charts_schema() -> None:
    folder = Path(str(CHART))
    schema = without_remote(json.loads((folder / "values.schema.json").read_text(encoding="utf-8")))
    defaults = yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8"))

    problems = jsonschema.Draft202012Validator(schema).iter_errors(merged(defaults, VALUES))

    assert [] == [f"{error.json_path}: {error.message}" for error in problems]

"""Private names for steps and runs in pods: of dagster-k8s, and of Dagster's executor for such steps."""

from typing import Final

from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,  # what a step handler answers the executor
    StepDelegatingExecutor,  # extended: steps in pods and in the run's process
    StepHandlerContext,  # the type of the step that a handler launches
)
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import (
    DagsterK8sAPIRetryLimitExceeded,  # the Kubernetes API stayed unavailable
    DagsterK8sUnrecoverableAPIError,  # a request that the Kubernetes API refused
    DagsterKubernetesClient,  # extended: a request is repeated for longer
    PatchedApiClient,  # the client of the API below that
)
from dagster_k8s.container_context import K8sContainerContext  # a pod's settings, merged as dagster-k8s merges them
from dagster_k8s.executor import K8sStepHandler  # extended: diagnosis, memory, steps in the run's process
from dagster_k8s.job import (
    UserDefinedDagsterK8sConfig,  # a part of a pod's settings
    get_job_name_from_run_id,  # the name of the job of a run
    get_k8s_job_name,  # the name of the job of a worker
    get_user_defined_k8s_config,  # the settings of a pod in tags
)
from dagster_k8s.utils import sanitize_k8s_label  # the form of a step's name in a label

LIBRARY: Final = "dagster-k8s"
CHECKED: Final = "0.29.27"
MEMBERS: Final = {
    "DagsterKubernetesClient(batch_api, core_api, logger, sleeper, timer)": "extended",
    "DagsterKubernetesClient.create_namespaced_job_with_retries(body, namespace, wait_time_between_attempts)": (
        "overridden: a job that exists already is no error"
    ),
    "DagsterKubernetesClient.delete_job(job_name, namespace)": "deletes a job and its pods",
    "get_job_name_from_run_id(run_id, resume_attempt_number)": "the name of the job of a run",
    "get_k8s_job_name(input_1, input_2)": "the name of the job of a worker",
    "K8sContainerContext.create_for_run(dagster_run, run_launcher, include_run_tags)": "the pod of a worker",
    "K8sRunLauncher._api_client": "the launcher's Kubernetes client, which is replaced",
    "K8sRunLauncher._get_resume_attempt_number(run)": "part of the name of a run's job",
    "K8sRunLauncher._instance": "reports what the launcher did, and finds the run that a run retries",
    "K8sRunLauncher.get_container_context_for_run(dagster_run)": "overridden: more memory",
    "K8sStepHandler(image, container_context, load_incluster_config, kubeconfig_file)": "extended",
    "K8sStepHandler._api_client": "the step handler's Kubernetes client, which is replaced",
    "K8sStepHandler._get_container_context(step_handler_context)": "overridden: the declared resources, more memory",
    "K8sStepHandler._get_k8s_step_job_name(step_handler_context)": "the name of the job of a step",
    "K8sStepHandler._get_step_key(step_handler_context)": "the step",
    "StepDelegatingExecutor._event_cursor": "the position in the run's events",
    "StepDelegatingExecutor._pop_events(instance, run_id, seen_storage_ids)": "overridden: reads only what it needs",
    "StepDelegatingExecutor.execute(plan_context, execution_plan)": "overridden: a cancelled run leaves no pod behind",
    "StepDelegatingExecutor.log_failure_or_retry_event_after_error(step_context, err_info, known_state)": (
        "overridden: a step whose pod was lost is retried"
    ),
}

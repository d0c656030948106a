"""A client of the Kubernetes API that repeats a request while the API is unavailable.

A managed control plane is unavailable for a minute or two while it is upgraded. Its pods go on in the meantime.
"""

import logging
import time
from typing import Any, Final, Self

import kubernetes
from urllib3.util import Retry

from ml_assets.adapters.dagster_k8s import DagsterK8sUnrecoverableAPIError, DagsterKubernetesClient, PatchedApiClient

OUTAGE_SECONDS = 130
"""How long a request is repeated. dagster-k8s sends some requests four times, which must not take longer than
`heartbeatTolerance` of the Helm values."""
PAUSE_SECONDS: Final = 10.0
"""The pause before dagster-k8s sends a request again."""
_UNAVAILABLE: Final = (429, 500, 502, 503, 504)
_CONFLICT: Final = 409


class RetryUntil(Retry):  # type: ignore[misc]  # mypy does not read urllib3
    """Repeats a request until a time after its first failure, instead of a number of times."""

    _until: float | None = None
    """The time; None before the first failure."""

    def increment(self, *args: Any, **named: Any) -> Self:
        """Return how to go on after a failure, or raise the failure once the time has passed."""
        until = self._until or time.monotonic() + OUTAGE_SECONDS
        if time.monotonic() > until:
            return super(RetryUntil, self.new(total=0)).increment(*args, **named)  # type: ignore[no-any-return]
        following: Self = super().increment(*args, **named)
        following._until = until
        return following


class RetryingClient(DagsterKubernetesClient):
    """dagster-k8s's client, to which an outage and a lost response are no errors."""

    def __init__(self, api: PatchedApiClient) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            kubernetes.client.BatchV1Api(api), kubernetes.client.CoreV1Api(api), logging.info, time.sleep, time.time
        )

    def create_namespaced_job_with_retries(
        self, body: Any, namespace: str, wait_time_between_attempts: float = PAUSE_SECONDS
    ) -> None:
        """Create a job. One of this name was created by an earlier attempt whose response was lost.

        The names of jobs contain the run, the step and the number of the attempt.
        """
        try:
            super().create_namespaced_job_with_retries(body, namespace, wait_time_between_attempts)
        except DagsterK8sUnrecoverableAPIError as error:
            if getattr(error.k8s_api_exception, "status", None) != _CONFLICT:
                raise


def retrying_client() -> RetryingClient:
    """Return a client with the configuration that was loaded last."""
    configuration = kubernetes.client.Configuration.get_default_copy()
    configuration.retries = RetryUntil(
        total=None,
        allowed_methods=None,  # all, also POST
        status_forcelist=_UNAVAILABLE,
        raise_on_status=False,
        backoff_factor=0.25,
        backoff_max=5,
        retry_after_max=5,
    )
    return RetryingClient(PatchedApiClient(configuration))

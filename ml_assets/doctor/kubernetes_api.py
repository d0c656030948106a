"""The doctor's client of the Kubernetes API: plain JSON, no retries, short timeouts.

Not here: the checks (see `ml_assets.doctor.cluster`).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ml_assets.doctor.checks import Finding
from ml_assets.extras import as_extra_error

_TIMEOUT: Final = (2.0, 4.0)
_IN_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


class RefusedError(RuntimeError):
    """The API refused a request, with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


class UnreachableError(RuntimeError):
    """The API cannot be reached."""


def is_configured(launcher: Mapping[str, Any] | None) -> bool:
    """Return whether a cluster is configured: by the launcher, a kubeconfig, or a pod's service account."""
    config = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    return launcher is not None or "KUBERNETES_SERVICE_HOST" in os.environ or Path(config.split(os.pathsep)[0]).exists()


class Api:
    """The API of the cluster in the launcher's settings, or else that of the pod or kubeconfig."""

    def __init__(self, launcher: Mapping[str, Any]) -> None:
        """Read the connection settings.

        Raises:
            ExtraMissingError: the Kubernetes client is not installed.
            UnreachableError: there are no connection settings.
        """
        import yaml

        try:
            import kubernetes
        except ImportError as error:
            raise as_extra_error(error, needed_by="the check of the configured cluster") from error

        file = launcher.get("kubeconfig_file") or os.environ.get("KUBECONFIG")
        in_pod = launcher.get("load_incluster_config", "KUBERNETES_SERVICE_HOST" in os.environ and not file)
        settings = kubernetes.client.Configuration()
        settings.retries = False
        try:
            if in_pod:
                kubernetes.config.load_incluster_config(client_configuration=settings)
            else:
                kubernetes.config.load_kube_config(config_file=file, client_configuration=settings)
        except (kubernetes.config.ConfigException, OSError, yaml.YAMLError) as error:
            raise UnreachableError(f"its connection settings cannot be read: {error}") from error
        self.client = kubernetes.client.ApiClient(settings)
        self.host = str(settings.host)
        self.namespace = str(launcher.get("job_namespace") or self._namespace(file, in_pod=bool(in_pod)))

    @staticmethod
    def _namespace(file: str | None, *, in_pod: bool) -> str:
        if in_pod:
            own = _IN_POD / "namespace"
            return own.read_text(encoding="utf-8").strip() if own.is_file() else "default"
        import kubernetes

        _, context = kubernetes.config.list_kube_config_contexts(config_file=file)
        return str(context["context"].get("namespace") or "default")

    def get(self, path: str, **query: str) -> Any:
        """Return the object under a path; see `ask`."""
        return self.request("GET", path, query=query)

    def exists(self, kind: str, name: str) -> bool:
        """Return whether a secret, config map or service account of a name exists, without fetching its content.

        Raises:
            RefusedError: this account may not read it.
        """
        try:
            self.request("GET", f"/api/v1/namespaces/{self.namespace}/{kind}/{name}", accept=_METADATA_ONLY)
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
    ) -> Any:
        """Return the API's response.

        Raises:
            RefusedError: the API refused the request.
            UnreachableError: the API does not respond.
        """
        import kubernetes
        import urllib3

        try:
            answer = self.client.call_api(
                path, method, query_params=list((query or {}).items()), body=body, auth_settings=["BearerToken"],
                header_params={"Accept": accept, "Content-Type": "application/json"}, _preload_content=False,
                _request_timeout=_TIMEOUT,
            )  # fmt: skip
        except kubernetes.client.ApiException as error:
            raise RefusedError(error.status, error.reason) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{self.host} does not respond: {_named(error)}") from error
        return json.loads(answer.data)


def _named(error: Exception) -> str:
    """Return the root cause of an error, without the addresses of objects."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).rsplit('>: ', 1)[-1]}"


def unreachable(error: UnreachableError) -> Finding:
    """Return the finding about an API that cannot be reached."""
    return Finding(
        "cluster", "wrong", f"the Kubernetes API cannot be reached: {error}",
        "Check KUBECONFIG or the launcher's kubeconfig_file, and that this machine may reach the API server; in a pod, "
        "that its service account's token is mounted.",
    )  # fmt: skip

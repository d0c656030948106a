"""A client of Dagster's webserver, which launches runs as the UI does and follows their events."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from ml_assets.names import LAKE

_TOKEN: Final = "ML_ASSETS_SERVER_TOKEN"  # noqa: S105 - the name of a setting
_JOB: Final = "__ASSET_JOB"  # Dagster's name of the job of all assets
_TIMEOUT: Final = (5, 60)
_LOST_SECONDS: Final = 120
"""Seconds that a server may be unavailable while a run is followed. A new rollout of the webserver takes a minute."""
_QUEUED_SECONDS: Final = 15
_AT_ONCE: Final = 1000
QUEUED: Final = "Queued"
"""The kind of the event for a run that has been queued for a while."""

_HOME = """
query Home($keys: [AssetKeyInput!]) {
  assetNodes(assetKeys: $keys) { repository { name location { name } } }
}
"""
_LAKE = """
query Lake($selector: ResourceSelector!) {
  topLevelResourceDetailsOrError(resourceSelector: $selector) {
    ... on ResourceDetails { configuredValues { key value type } }
  }
}
"""
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""
_FOLLOW = """
query Follow($run: ID!, $cursor: String, $limit: Int) {
  runOrError(runId: $run) { __typename ... on Run { status } ... on Error { message } }
  logsForRun(runId: $run, afterCursor: $cursor, limit: $limit) {
    __typename
    ... on Error { message }
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on MessageEvent { message level stepKey }
        ... on ExecutionStepFailureEvent { error { className message cause { className message } } }
        ... on ExecutionStepUpForRetryEvent { error { message } }
        ... on RunFailureEvent { error { message } }
      }
    }
  }
}
"""


class ServerError(RuntimeError):
    """The server cannot be reached or refuses a request."""


@dataclass(frozen=True)
class ServerEvent:
    """One event of a run.

    Attributes:
        kind: the GraphQL type of the event, such as `ExecutionStepStartEvent`, or `QUEUED`.
        step: its step; '' for an event of the run.
        level: the level of a log message, such as `INFO`.
        message: the message.
        error: why a step failed or is retried; '' otherwise.
    """

    kind: str
    step: str
    level: str
    message: str
    error: str = ""


class DagsterServer:
    """A webserver at an address such as `http://localhost:3000`.

    Args:
        url: its address, with the path prefix if it has one.
        poll_seconds: seconds between two requests about a run.

    Raises:
        ServerError: the address is not valid.
    """

    def __init__(self, url: str, *, poll_seconds: float = 1.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ServerError(
                "the server's address is not valid; expected http(s)://host:port, without a user or password."
            )
        self.url = url.rstrip("/")
        self._poll_seconds = poll_seconds
        self._session = requests.Session()
        if token := os.environ.get(_TOKEN):
            self._session.headers["Authorization"] = f"Bearer {token}"

    def launch(self, assets: Sequence[Sequence[str]], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> str:
        """Launch a run over some assets and return its id.

        Args:
            assets: paths of asset keys.
            tags: tags of the run, including those of a range of partitions.
            run_config: the run configuration.

        Raises:
            ServerError: the server cannot be reached, does not know the assets, or refuses the run.
        """
        selector = {**self._home(assets), "jobName": _JOB, "assetSelection": [{"path": [*path]} for path in assets]}
        params = {
            "selector": selector,
            "runConfigData": run_config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._post(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            message = answer.get("message") or "; ".join(error["message"] for error in answer.get("errors", ()))
            raise ServerError(f"{self.url} refused the run ({answer['__typename']}): {message}")
        return str(answer["run"]["runId"])

    def lake(self, assets: Sequence[Sequence[str]]) -> str:
        """Return the address of the lake that the code location of some assets uses.

        It is '' for the folder `.lake` of its project, for an address from an environment variable that only the server
        knows, and for a resource of the project's own.

        Raises:
            ServerError: the server cannot be reached, or does not know the assets.
        """
        answer = self._post(_LAKE, {"selector": {**self._home(assets), "resourceName": LAKE}})
        values = answer["topLevelResourceDetailsOrError"].get("configuredValues", ())
        urls = [it["value"] for it in values if it["key"] == "url" and it["type"] == "VALUE"]
        return str(json.loads(urls[0])) if urls else ""

    def _home(self, assets: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the code location and the repository of assets."""
        nodes = self._post(_HOME, {"keys": [{"path": [*path]} for path in assets]})["assetNodes"]
        if len(nodes) < len(assets):
            raise ServerError(
                f"{self.url} knows {len(nodes)} of the {len(assets)} requested assets, such as {'/'.join(assets[0])}; "
                "expected all. Deploy the current code, or reload the code location in the UI."
            )
        home = nodes[0]["repository"]
        return {"repositoryLocationName": home["location"]["name"], "repositoryName": home["name"]}

    def follow(self, run_id: str) -> Iterator[ServerEvent | bool]:
        """Yield the events of a run until it has ended, and then whether it succeeded.

        Raises:
            ServerError: the server is unavailable for too long, or does not know the run.
        """
        cursor, lost = None, None
        began, is_queue_reported = time.monotonic(), False
        while True:
            try:
                answer = self._post(_FOLLOW, {"run": run_id, "cursor": cursor, "limit": _AT_ONCE})
            except _UnreachableError:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > _LOST_SECONDS:
                    raise
                time.sleep(self._poll_seconds)
                continue
            lost = None
            run, logs = answer["runOrError"], answer["logsForRun"]
            for part in (run, logs):
                if part["__typename"] not in {"Run", "EventConnection"}:
                    raise ServerError(f"{self.url} cannot read run {run_id}: {part.get('message')}")
            yield from (_server_event(event) for event in logs["events"])
            cursor = logs["cursor"]
            if logs["hasMore"]:
                continue
            if run["status"] in {"SUCCESS", "FAILURE", "CANCELED"}:
                yield run["status"] == "SUCCESS"
                return
            if run["status"] == "QUEUED" and not is_queue_reported and time.monotonic() - began > _QUEUED_SECONDS:
                yield ServerEvent(
                    QUEUED, "", "INFO", "still queued: a daemon starts it when the concurrency limits allow"
                )
                is_queue_reported = True
            time.sleep(self._poll_seconds)

    def page(self, run_id: str) -> str:
        """Return the address of a run in the UI."""
        return f"{self.url}/runs/{run_id}"

    def _post(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._session.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=_TIMEOUT,
                allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as error:
            raise _UnreachableError(
                f"no Dagster server answers at {self.url} ({type(error).__name__}). Start one with `ml-assets ui`, "
                "forward its port (kubectl port-forward), or correct the address."
            ) from error
        if answer.status_code in {401, 403} or answer.is_redirect:
            raise ServerError(
                f"{self.url} requires a login (HTTP {answer.status_code}). Set {_TOKEN}, or bypass the proxy with "
                "kubectl port-forward."
            )
        if answer.status_code >= 500:
            raise _UnreachableError(f"{self.url} cannot answer now (HTTP {answer.status_code}).")
        try:
            body = answer.json()
        except requests.JSONDecodeError as error:
            raise ServerError(
                f"{self.url}/graphql did not answer with JSON (HTTP {answer.status_code}); expected "
                "Dagster's webserver there."
            ) from error
        if body.get("errors"):
            raise ServerError(f"{self.url} cannot answer: {body['errors'][0].get('message', body['errors'][0])}")
        data: dict[str, Any] = body["data"]
        return data


class _UnreachableError(ServerError):
    """The server does not answer now; it may answer later."""


def _server_event(event: Mapping[str, Any]) -> ServerEvent:
    error = event.get("error")
    while error and str(error.get("className", "")).startswith("Dagster") and error.get("cause"):
        error = error["cause"]
    return ServerEvent(
        kind=event["__typename"],
        step=event.get("stepKey") or "",
        level=event.get("level") or "",
        message=event.get("message") or "",
        error=str(error["message"]).strip() if error else "",
    )

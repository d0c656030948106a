"""Checks the fields of Kubernetes objects against the models of the Kubernetes client. Not here: their meaning."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kubernetes.client import ApiClient


def as_kubernetes_reads_it(value: Any, kind: str) -> Any:
    """Return what is left of an object that went through the model of its kind, and came back.

    A field that the kind does not have is gone, one of another type is changed, one that is missing raises.
    """
    client = ApiClient()
    answer = SimpleNamespace(data=json.dumps(value))
    return client.sanitize_for_serialization(client.deserialize(answer, kind))


def kind_of(document: Mapping[str, Any]) -> str:
    """Return the name of the client's model of an object: its version and kind, such as `V1Deployment`."""
    version = str(document["apiVersion"]).rpartition("/")[2]
    return f"{version[0].upper()}{version[1:]}{document['kind']}"

"""Checks declared fields of a pod: by the models of Kubernetes' client, which have the names and types."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

_NESTED: Final = re.compile(r"(list|dict)[\[(](?:str, ?)?(.+)[\])]")
_PLAIN: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "str": (str, "text; put a number in quotes"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "datetime": ((str, datetime), "a time"),
}
_KINDS: Final = {"spec": "V1PodSpec", "container": "V1Container"}


def pod_problem(given: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the declared fields `spec` and `container` of a pod.

    None if nothing is, or if the extra `k8s` is not installed: the image that runs pods has it.
    """
    if not any(given.values()) or importlib.util.find_spec("kubernetes") is None:
        return None
    return next((it for name, fields in given.items() for it in _problems(fields, _KINDS[name], name)), None)


def _problems(value: object, kind: str, where: str) -> Iterator[str]:
    """Yield what is wrong with a value of a type of Kubernetes' client, such as `list[V1Volume]`."""
    if (nested := _NESTED.fullmatch(kind)) is not None:
        expected, inner = nested.groups()
        if isinstance(value, list) and expected == "list":
            value = dict(enumerate(value))
        elif not isinstance(value, dict) or expected == "list":
            yield f"'{where}' is {value!r}; expected a {'list' if expected == 'list' else 'map'}"
            return
        for name, part in value.items():
            yield from _problems(part, inner, f"{where}.{name}")
    elif kind in _PLAIN:
        types, words = _PLAIN[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
            yield f"'{where}' is {value!r}; expected {words}"
    elif kind != "object":
        yield from _problems_of_model(value, kind, where)


def _problems_of_model(value: object, kind: str, where: str) -> Iterator[str]:
    import kubernetes.client.models

    model = getattr(kubernetes.client.models, kind)
    if not isinstance(value, dict):
        yield f"'{where}' is {value!r}; expected the fields of Kubernetes' {kind[2:]}"
        return
    types = {model.attribute_map[name]: its for name, its in model.openapi_types.items()}
    for name, part in value.items():
        if name in types:
            yield from _problems(part, types[name], f"{where}.{name}")
        else:
            yield f"'{where}.{name}' is no field of Kubernetes' {kind[2:]}"

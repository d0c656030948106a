"""The resources of a stage that runs in its own pod.

Not here: how they become a pod (see `ml_assets.models.pod_tags`).
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ml_assets.declaration.parts import Part
from ml_assets.kubernetes.pod_fields import pod_problem
from ml_assets.kubernetes.quantity import bytes_of, cores_of

_MOST_CORES = 1024
_LEAST_BYTES, _MOST_BYTES = 4 * 1024**2, 1024**5


def _as_text(value: Any) -> Any:  # noqa: ANN401 - what YAML makes of 2 and 1.5
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _checked(measure: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        measure(text)
        return text

    return AfterValidator(check)


def _some_cores(text: str) -> None:
    if not 0 < cores_of(text) <= _MOST_CORES:
        raise ValueError(f"expected more than 0 and at most {_MOST_CORES} cores, such as 500m or 1.5")


def _some_bytes(text: str) -> None:
    if not _LEAST_BYTES <= bytes_of(text) <= _MOST_BYTES:
        raise ValueError("expected between 4Mi and 1Pi of bytes, such as 512Mi or 4Gi")


_NumberOfCores = Annotated[float, Field(gt=0, le=_MOST_CORES)]
_NumberOfBytes = Annotated[float, Field(ge=_LEAST_BYTES, le=_MOST_BYTES)]
Cores = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | _NumberOfCores),
    _checked(_some_cores),
    Field(
        title="cores",
        description=f"CPU cores as in Kubernetes, such as `500m`, `1.5` or `2`; above 0, at most {_MOST_CORES}.",
    ),
]
Bytes = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | _NumberOfBytes),
    _checked(_some_bytes),
    Field(title="bytes", description="Number of bytes as in Kubernetes, such as `512Mi` or `4Gi`; from 4Mi to 1Pi."),
]
_DNS = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_LABEL = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_LABEL_NAME = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelName = Annotated[
    str,
    Field(
        pattern=_LABEL_NAME,
        title="label name",
        description="Name of a Kubernetes label, such as `nvidia.com/gpu.product`.",
    ),
]
LabelValue = Annotated[
    str,
    Field(pattern=_LABEL, title="label value", description="Value of a Kubernetes label, at most 63 characters."),
    BeforeValidator(_as_text),
]

PodFields = Annotated[
    dict[str, Any],
    Field(title="Kubernetes fields", description="Fields of a Kubernetes object, by their own names."),
]


class Toleration(Part):
    """A taint of nodes that the pod tolerates, as in Kubernetes."""

    key: LabelName | None = Field(
        default=None, description="Key of the taint. Without it, and with operator `Exists`, every taint is tolerated."
    )
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="Whether the taint's value must equal `value`, or only its key must exist."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint, for operator `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint that is tolerated. Without it, every effect is."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=366 * 24 * 3600)] | None = Field(
        default=None,
        description="For effect `NoExecute`: seconds that the pod stays on a node after the taint is added. "
        "Without it, the pod stays.",
    )

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator 'Exists' has no value; leave the value out, or use 'Equal'")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator 'Equal' needs a key; give one, or use 'Exists' to tolerate every taint")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("'toleration_seconds' goes with effect 'NoExecute' alone")
        return self


_OWN_SPEC: Final = {
    "containers": "container", "restartPolicy": None, "nodeSelector": "node_selector", "tolerations": "tolerations",
    "priorityClassName": "priority_class", "activeDeadlineSeconds": "deadline_minutes",
}  # fmt: skip
_OWN_CONTAINER: Final = {"name": None, "command": None, "args": None, "image": "image"}
_AMOUNTS: Final = ("requests", "limits")
_OWN_LABELS: Final = ("dagster/", "app.kubernetes.io/", "batch.kubernetes.io/", "job-name", "controller-uid")


class PodMetadata(Part):
    """Labels and annotations of a stage's pod and of its job."""

    labels: dict[LabelName, LabelValue] = Field(
        default={}, description="Labels, such as `kueue.x-k8s.io/queue-name` for a queue."
    )
    annotations: dict[LabelName, str] = Field(default={}, description="Annotations.")

    @model_validator(mode="after")
    def _leaves_the_labels_of_dagster(self) -> Self:
        for name in self.labels:
            if name.startswith(_OWN_LABELS):
                raise ValueError(f"label '{name}' identifies the pods of a run and is set by Dagster; leave it out")
        return self


class PodTemplate(Part):
    """What a stage's pod has beyond the other fields of its compute, in Kubernetes' own names.

    Lists, such as volumes, are added to those of the launcher. What another field declares, such as `memory`, is
    refused here. With the extra `k8s`, `ml-assets parse` checks the names and types.
    """

    metadata: PodMetadata = Field(
        default=PodMetadata(), description="Labels and annotations of the pod and of its job."
    )
    spec: PodFields = Field(
        default={},
        description="Fields of Kubernetes' `PodSpec`: `serviceAccountName`, `imagePullSecrets`, `affinity`, "
        "`topologySpreadConstraints`, `runtimeClassName`, `schedulerName`, `resourceClaims`, `volumes`, and others.",
    )
    container: PodFields = Field(
        default={},
        description="Fields of Kubernetes' `Container`: `resources` (such as a limit of CPU), `volumeMounts`, `env`, "
        "`securityContext`, and others.",
    )

    @model_validator(mode="after")
    def _has_no_field_of_compute(self) -> Self:
        for where, fields, own in (("spec", self.spec, _OWN_SPEC), ("container", self.container, _OWN_CONTAINER)):
            for name, other in own.items():
                if name in fields:
                    instead = "a step's pod has its own; leave it out" if other is None else f"use '{other}' instead"
                    raise ValueError(f"'{where}.{name}' cannot be declared here: {instead}")
        resources = self.container.get("resources", {})
        amounts = [resources, *(resources.get(which, {}) for which in _AMOUNTS)] if isinstance(resources, dict) else [0]
        if not all(isinstance(it, dict) for it in amounts):
            raise ValueError("'container.resources' has no amounts; expected such as {limits: {cpu: \"8\"}}")
        if (problem := pod_problem({"spec": self.spec, "container": self.container})) is not None:
            raise ValueError(problem)
        return self

    def amounts(self, which: str) -> dict[str, Any]:
        """Return the requests or the limits."""
        found: dict[str, Any] = self.container.get("resources", {}).get(which, {})
        return found


class Compute(Part):
    """The resources of a stage. A stage with a `compute` section, even an empty one, runs in its own pod."""

    cpu: Cores | None = Field(
        default=None, description="CPU cores to request. No limit is set, because a limit throttles the pod."
    )
    memory: Bytes | None = Field(default=None, description="Memory to request, which is also the limit.")
    memory_ceiling: Bytes | None = Field(
        default=None,
        description="A pod that is killed for memory is retried with twice as much, up to this amount. Without it, "
        "such a pod is not retried. Needs `memory`.",
    )
    gpu: Annotated[int, Field(ge=0, le=16)] = Field(default=0, description="Number of GPUs.")
    gpu_type: LabelValue | None = Field(
        default=None, description="GPU model: the value of the node label `nvidia.com/gpu.product`. Needs `gpu`."
    )
    gpu_resource: LabelName = Field(default="nvidia.com/gpu", description="Kubernetes resource that counts the GPUs.")
    ephemeral_storage: Bytes | None = Field(default=None, description="Local disk to request, which is also the limit.")
    image: Annotated[str, Field(pattern=r"^\S+$")] | None = Field(
        default=None, description="Container image of the pod. Without it, the image of the code location is used."
    )
    node_selector: dict[LabelName, LabelValue] = Field(
        default={}, description="Labels that a node must have to run the pod."
    )
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints of nodes that the pod tolerates.")
    priority_class: Annotated[str, Field(pattern=_DNS)] | None = Field(
        default=None, description="Kubernetes priority class of the pod. Without it, the cluster's default applies."
    )
    deadline_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] | None = Field(
        default=None,
        description="Minutes after which the pod is stopped, finished or not. Without it, there is no limit.",
    )
    start_timeout_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = Field(
        default=10, description="Minutes that the pod may wait for a node and for its image."
    )
    queue_timeout_minutes: Annotated[float, Field(gt=0, le=30 * 24 * 60)] = Field(
        default=24 * 60,
        exclude_if=lambda it: it == 24 * 60,
        description="Minutes that a queue, such as Kueue, may hold the pod back: its job is suspended, or it has a "
        "scheduling gate. They do not count as `start_timeout_minutes`.",
    )
    pod: PodTemplate = Field(
        default=PodTemplate(),
        exclude_if=lambda it: it == PodTemplate(),
        description="Further fields of the pod, in Kubernetes' own names.",
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=2, description="How many times a lost pod (evicted, preempted, node gone) is replaced."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.memory_ceiling is not None:
            if self.memory is None:
                raise ValueError("'memory_ceiling' needs 'memory' to begin with")
            if bytes_of(self.memory_ceiling) < bytes_of(self.memory):
                raise ValueError(f"memory_ceiling {self.memory_ceiling} must not be below memory {self.memory}")
        if self.gpu_type is not None and not self.gpu:
            raise ValueError("'gpu_type' needs 'gpu', how many of them")
        self._check_amounts()
        return self

    def _check_amounts(self) -> None:
        own = {"memory": "memory", "ephemeral-storage": "ephemeral_storage", self.gpu_resource: "gpu"}
        for which, names in (("requests", own | {"cpu": "cpu"}), ("limits", own)):
            for name in self.pod.amounts(which).keys() & names.keys():
                where = f"pod.container.resources.{which}.{name}"
                raise ValueError(f"'{where}' cannot be declared here: use '{names[name]}' instead")
        limit = self.pod.amounts("limits").get("cpu")
        if self.cpu is not None and limit is not None and cores_of(str(limit)) < cores_of(self.cpu):
            raise ValueError(f"the limit of CPU in 'pod', {limit}, must not be below cpu {self.cpu}")

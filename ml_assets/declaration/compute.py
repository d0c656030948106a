"""What a stage asks for where it runs in a pod of its own.

How that becomes a pod stays out; see `ml_assets.stages.common.pod_tags`.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ml_assets.declaration.parts import Part
from resources.pods.quantity import bytes_of, cores_of

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


Cores = Annotated[str, BeforeValidator(_as_text), _checked(_some_cores)]
Bytes = Annotated[str, BeforeValidator(_as_text), _checked(_some_bytes)]
_DNS = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_LABEL = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_LABEL_NAME = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelName = Annotated[str, Field(pattern=_LABEL_NAME)]
LabelValue = Annotated[str, BeforeValidator(_as_text), Field(pattern=_LABEL)]


class Toleration(Part):
    """A taint of nodes that the pod may run on all the same, as Kubernetes has it."""

    key: LabelName | None = Field(None, description="absent, with operator Exists: every taint")
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="absent: all")
    toleration_seconds: Annotated[int, Field(ge=0, le=366 * 24 * 3600)] | None = Field(
        None, description="with effect NoExecute: how long it stays on a node that gets the taint; absent: for ever"
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


class Compute(Part):
    """What a stage asks for; one that asks for something, be it nothing in particular, gets a pod of its own."""

    cpu: Cores | None = Field(None, description="cores it asks for, such as 500m or 2; never a limit, which throttles")
    memory: Bytes | None = Field(None, description="asked for, and the limit")
    memory_ceiling: Bytes | None = Field(
        None, description="killed for memory, it is retried with twice as much, up to this; absent: not retried"
    )
    gpu: Annotated[int, Field(ge=0, le=16)] = 0
    gpu_type: LabelValue | None = Field(None, description="the nodes' label nvidia.com/gpu.product")
    gpu_resource: LabelName = "nvidia.com/gpu"
    ephemeral_storage: Bytes | None = Field(None, description="disk asked for, and the limit")
    image: Annotated[str, Field(pattern=r"^\S+$")] | None = Field(None, description="absent: the code location's")
    node_selector: dict[LabelName, LabelValue] = Field(default={})
    tolerations: tuple[Toleration, ...] = ()
    priority_class: Annotated[str, Field(pattern=_DNS)] | None = None
    deadline_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] | None = Field(
        None, description="after which the pod is ended, however far it is; absent: never"
    )
    start_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = Field(
        10, description="how long its pod may wait for a node and its image"
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        2, description="how often a pod that is lost (evicted, preempted, its node gone) is replaced"
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
        return self

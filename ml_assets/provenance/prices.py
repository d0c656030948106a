"""The price of an hour of CPU, memory and GPU, from a small YAML file that `ML_ASSETS_PRICES` names.

Not here: usage and charges (see `ml_assets.provenance.cost`).

    currency: CHF
    cpu_hour: 0.045            # one core
    memory_gib_hour: 0.006
    gpu_hour: 2.60             # one GPU of any type; or by the nodes' label nvidia.com/gpu.product:
    # gpu_hour: {NVIDIA-H100-80GB-HBM3: 4.10, default: 2.60}
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ml_assets.settings import SettingsError

PRICES: Final = "ML_ASSETS_PRICES"
DEFAULT: Final = "default"
_MOST_BYTES: Final = 2**20

Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _by_type(given: Any) -> Any:
    return {DEFAULT: given} if isinstance(given, int | float) else {} if given is None else given


class Prices(BaseModel):
    """The price table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="three capitals, such as CHF")]
    cpu_hour: Price
    memory_gib_hour: Price
    gpu_hour: Annotated[dict[str, Price], BeforeValidator(_by_type)] = {}

    def of_gpu(self, gpu_type: str | None) -> float | None:
        """Return the price of a GPU hour; None if the table has none."""
        return self.gpu_hour.get(gpu_type or DEFAULT, self.gpu_hour.get(DEFAULT))


def read_prices() -> Prices | None:
    """Return the price table that `ML_ASSETS_PRICES` names; None if it is not set.

    Raises:
        SettingsError: the file is missing or malformed; every error is listed.
    """
    given = os.environ.get(PRICES, "").strip()
    if not given:
        return None
    path = Path(given)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SettingsError(f"{PRICES} names {path}, which is too large for a price table; name another file.")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise SettingsError(
                f"{path} has an alias (*name), which is not allowed in a price table; write the value itself."
            )
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{PRICES} names {path}, which cannot be read ({getattr(error, 'strerror', None) or 'no UTF-8'}). Mount "
            "the price table there, or unset it."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise SettingsError(f"{path}:{line}: not YAML: {getattr(error, 'problem', error)}.") from error
    try:
        return Prices.model_validate(content)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {one}" for one in _errors(error))) from error


def _errors(error: ValidationError) -> list[str]:
    sentences = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        known = ", ".join(Prices.model_fields)
        sentences.append(
            {
                "missing": f"{field} is missing; add it.",
                "extra_forbidden": f"there is no '{field}'; expected some of {known}.",
                "model_type": f"expected fields {known}, got {type(problem['input']).__name__}.",
            }.get(problem["type"], f"{field}: {problem['msg']}, got {problem['input']!r}.")
        )
    return [*dict.fromkeys(sentences)]

"""Which functions of the engine each asset's own function enters while a flow runs.

cProfile counts them: a trace or profile function in Python doubles the time of a flow.
"""

import cProfile
import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import dagster as dg
import pytest

from tests.adapters.dagster import compute_generator

ROOT = Path(__file__).parent.parent
ENGINE = f"{ROOT / 'ml_assets'}/"
_LAKE = tuple(f"ml_assets.{name}" for name in ("lake.", "project", "settings", "contracts.periods"))
"""The lake, where it is, and the keys of its partitions."""
_BY_DAGSTER = tuple(f"ml_assets.{name}" for name in ("cli.console", "dagster_storage", "orchestration.messages"))
"""What Dagster calls when an asset's function logs: event storage and log handlers. The function does not call it."""


def functions_of(defs: dg.Definitions) -> Mapping[str, Callable[..., Any]]:
    """Return the function of every asset, by its qualified name; models share it."""
    found = [it for it in defs.assets or () if isinstance(it, dg.AssetsDefinition)]
    bodies = [it.op.compute_fn.decorated_fn for it in found]  # type: ignore[union-attr] # each is made from a function
    return {body.__qualname__: body for body in bodies}


@contextmanager
def entered_by_assets() -> Iterator[dict[str, set[tuple[str, str]]]]:
    """Collect the functions that each asset's function enters meanwhile: module and name, by its qualified name."""
    profiles: dict[str, cProfile.Profile] = defaultdict(lambda: cProfile.Profile(builtins=False))
    found: dict[str, set[tuple[str, str]]] = {}
    invoke = compute_generator.invoke_compute_fn

    def invoke_profiled(body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        profile = profiles[body.__qualname__]

        def profiled(*given: Any, **named: Any) -> Any:
            with profile:
                return body(*given, **named)

        result = invoke(profiled, *args, **kwargs)
        return step_by_step(profile, result) if inspect.isgenerator(result) else result

    def step_by_step(profile: cProfile.Profile, body: Iterator[Any]) -> Iterator[Any]:
        while True:
            with profile:
                given = next(body, body)
            if given is body:
                return
            yield given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute_generator, "invoke_compute_fn", invoke_profiled)
        yield found
    for name, profile in profiles.items():
        codes = [entry.code for entry in profile.getstats() if isinstance(entry.code, CodeType)]
        found[name] = {
            (module_of(code), code.co_qualname)
            for code in codes
            if code.co_filename.startswith(ENGINE) and "<module>" not in code.co_qualname
        }


def entered_in(flown: Path) -> dict[str, list[list[str]]]:
    """Return the functions that were entered while the lake of the flow was made."""
    found: dict[str, list[list[str]]] = json.loads((flown.parent / "entered.json").read_text(encoding="utf-8"))
    return found


def files_of_steps(flown: Path) -> dict[str, list[str]]:
    """Return the files that each asset's function entered; the lake counts as one."""
    return {
        name: sorted(
            {"ml_assets.lake" if it.startswith(_LAKE) else it for it, _ in its if not it.startswith(_BY_DAGSTER)}
        )
        for name, its in entered_in(flown).items()
    }


def module_of(code: CodeType) -> str:
    return ".".join(Path(code.co_filename).relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

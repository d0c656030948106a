"""Which functions of the engine each asset's own function enters while a flow runs."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import dagster as dg

ENGINE = Path(__file__).parent.parent / "ml_assets"
WATCHED = tuple(str(ENGINE / name) for name in ("contracts", "logic", "stages"))


def functions_of(defs: dg.Definitions) -> Mapping[str, Callable[..., Any]]:
    """Return the function of every asset, by its qualified name; models share it."""
    found = [it for it in defs.assets or () if isinstance(it, dg.AssetsDefinition)]
    bodies = [it.op.compute_fn.decorated_fn for it in found]  # type: ignore[union-attr] # each is made from a function
    return {body.__qualname__: body for body in bodies}


@contextmanager
def entered_by(functions: Mapping[str, Callable[..., Any]]) -> Iterator[dict[str, set[tuple[str, str]]]]:
    """Collect the functions that each of these enters meanwhile, in threads of its own too: module and name."""
    bodies: dict[CodeType, str] = {it.__code__: name for name, it in functions.items()}
    found: dict[str, set[tuple[str, str]]] = {}
    open_now: list[str] = []

    def look(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call":
            if code in bodies:
                open_now.append(bodies[code])
            if open_now and code.co_filename.startswith(WATCHED) and "<module>" not in code.co_qualname:
                found.setdefault(open_now[-1], set()).add((frame.f_globals["__name__"], code.co_qualname))
        elif event == "return" and code in bodies and open_now:  # a generator's, when it yields
            open_now.pop()

    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)
        threading.setprofile(None)

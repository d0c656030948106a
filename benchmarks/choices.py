"""A type of arguments that may be given any number of times, each one of some names."""

import argparse
from collections.abc import Callable, Collection


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return the type. `choices` of argparse refuses the default of an argument with `nargs="*"`."""

    def checked(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"'{name}' is unknown; expected some of: {', '.join(names)}")
        return name

    return checked

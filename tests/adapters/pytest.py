"""Private names of pytest with which its controller rewrites assertions before its workers start."""

from typing import Final

from _pytest.assertion import AssertionState  # where the cache reports what it could not write
from _pytest.assertion.rewrite import (
    PYC_TAIL,  # the end of the name of a cached module
    _read_pyc,  # whether a module is cached
    _rewrite_test,  # a module with rewritten assertions
    _write_pyc,  # caches it where the workers look for it
    get_cache_dir,  # the folder of the cache
    try_makedirs,  # makes it, if that is allowed
)

LIBRARY: Final = "pytest"
CHECKED: Final = "9.2.0"
MEMBERS: Final = {
    "_read_pyc(source, pyc)": "whether a module is cached",
    "_rewrite_test(fn, config)": "a module with rewritten assertions",
    "_write_pyc(state, co, source_hash, pyc)": "caches it where the workers look for it",
}

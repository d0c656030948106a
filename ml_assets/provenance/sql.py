"""The version of a dbt model's code: its SQL, the macros that it calls, the types of its columns and its rules.

Comments, line breaks and spaces do not count, nor do dbt's own macros: those belong to the environment.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""(?P<comment>\{\#.*?\#\} | --[^\n]* | /\*.*?\*/ ) | '(?:[^']|'')*' | "[^"]*" | \w+ | \S""",
    re.VERBOSE | re.DOTALL,
)
_OF_DBT: Final = frozenset({"dbt", "dbt_duckdb", "dbt_postgres", "dbt_spark"})


def model_version(manifest: Mapping[str, Any], model: str, *, engine: str, rules: str) -> str:
    """Return the version of a model's code.

    Args:
        manifest: dbt's manifest.
        model: the model's unique id.
        engine: the version of the code that runs dbt and holds its tables against their contracts.
        rules: a digest of the rules of the model's contract; with other rules its rows are checked again.
    """
    node = manifest["nodes"][model]
    macros: dict[str, str] = {}
    waiting = list(node["depends_on"].get("macros", ()))
    while waiting:
        name = waiting.pop()
        macro = manifest["macros"].get(name)
        if macro is None or macro["package_name"] in _OF_DBT or name in macros:
            continue
        macros[name] = canonical(macro["macro_sql"])
        waiting += macro["depends_on"].get("macros", ())
    columns = [(name, column.get("data_type")) for name, column in node["columns"].items()]
    sql = canonical(node["raw_code"])
    text = json.dumps([engine, rules, sql, sorted(macros.values()), columns, node["config"]["materialized"]])
    return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()


def canonical(sql: str) -> str:
    """Return SQL, or a template of it, without comments and with one space between its tokens."""
    return " ".join(it.group() for it in _TOKEN.finditer(sql) if it["comment"] is None)

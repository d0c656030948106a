"""The code version of a dbt model: a hash of its SQL, the macros that it calls, its column types and its rules.

Comments, white space and the package of a macro do not matter, nor do dbt's own macros, which are part of the
environment.
"""

import hashlib
import json
import re
from collections.abc import Container, Mapping
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""(?P<comment>\{\#.*?\#\} | --[^\n]* | /\*.*?\*/ ) | '(?:[^']|'')*' | "[^"]*" | \w+ | \S""",
    re.VERBOSE | re.DOTALL,
)
_OF_DBT: Final = frozenset({"dbt", "dbt_duckdb", "dbt_postgres", "dbt_spark"})


def model_version(manifest: Mapping[str, Any], model: str, *, engine: str, rules: str) -> str:
    """Return the code version of a dbt model.

    `engine` is the version of the code that runs dbt and validates its tables. `rules` is a digest of the rules in the
    model's contract: if they change, its rows are validated again.
    """
    node = manifest["nodes"][model]
    macros: dict[str, str] = {}
    waiting = list(node["depends_on"].get("macros", ()))
    while waiting:
        name = waiting.pop()
        macro = manifest["macros"].get(name)
        if macro is None or macro["package_name"] in _OF_DBT or name in macros:
            continue
        macros[name] = canonical(macro["macro_sql"], manifest["macros"])
        waiting += macro["depends_on"].get("macros", ())
    columns = [(name, column.get("data_type")) for name, column in node["columns"].items()]
    sql = canonical(node["raw_code"], manifest["macros"])
    text = json.dumps([engine, rules, sql, sorted(macros.values()), columns, node["config"]["materialized"]])
    return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()


def canonical(sql: str, macros: Container[str] = ()) -> str:
    """Return SQL or a template without comments and with one space between tokens.

    Calls of `macros`, which are unique ids, lose the package: `package.name(` becomes `name(`.
    """
    tokens = [it.group() for it in _TOKEN.finditer(sql) if it["comment"] is None]
    calls = enumerate(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
    prefixes = {
        at
        for at, (package, dot, name, bracket) in calls
        if (dot, bracket) == (".", "(") and f"macro.{package}.{name}" in macros
    }
    return " ".join(token for at, token in enumerate(tokens) if not {at, at - 1} & prefixes)

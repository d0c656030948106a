"""Examples of each command, and the settings that it reads, for the end of its help."""

from collections.abc import Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "init": ("init shop", "init shop --bare"),
    "new": (
        "new churn --table customers.csv --target churned --yes",
        "new load --table 's3://bucket/load/*.parquet' --target megawatts --task regression --partition hour",
        "new churn --undo",
    ),
    "run": ("run churn", "run churn --as-of 2026-11-30 --json", "run churn --rebuild --from 2026-11-24"),
    "ui": ("ui", "ui --port 3001"),
    "loop": ("loop", "loop --seconds 30 --port 3001"),
    "status": ("status", "status --json"),
    "champion": ("champion churn", "champion churn --on 2026-11-30"),
    "compare": ("compare churn 6932d1",),
    "predict": ("predict churn --input new.csv --output scores.parquet", "predict churn --input new.csv --explain"),
    "serve": ("serve churn", "serve churn load --host 0.0.0.0 --port 8080"),
    "export": ("export churn --to churn-model",),
    "promote": ('promote churn 6932d1 --why "checked with sales"',),
    "rollback": ('rollback churn --why "wrong prices since Monday"',),
    "withdraw": ('withdraw churn --why "complaints about its decisions"',),
    "explain": ("explain churn",),
    "quarantine": (
        "quarantine",
        "quarantine raw/churn 2026-11-30",
        'quarantine raw/churn 2026-11-30 --release --why "known returns"',
    ),
    "trace": ("trace churn", "trace churn/predictions --partition 2026-11-30", "trace --raw churn 2026-11-30"),
    "reproduce": ("reproduce churn", "reproduce churn@6932d1 --from raw"),
    "replay": ("replay", "replay 01234567 churn/model --pdb"),
    "gc": ("gc", "gc --keep-days 90 --yes"),
    "leaktest": ("leaktest churn", "leaktest churn --samples 200"),
    "simulate": ("simulate churn --from 2026-06-01 --to 2026-11-30",),
    "cost": ("cost", "cost churn --month 2026-11"),
    "parse": ("parse",),
    "doctor": ("doctor", "doctor --json"),
    "upgrade": ("upgrade --check", "upgrade"),
    "completion": ("completion bash > ~/.bash_completion", "completion zsh > ~/.zfunc/_ml-assets"),
}
_LAKE: Final = {"ML_ASSETS_LAKE": "the lake (default: the folder .lake of the project)"}
_SERVER: Final = {
    "ML_ASSETS_SERVER": "the Dagster server of --server",
    "ML_ASSETS_SERVER_TOKEN": "a token for it, where it requires a login",
}
_AWS: Final = {"AWS_ENDPOINT_URL": "an S3 server other than Amazon's; the other settings of AWS apply too"}
_WITHOUT_LAKE: Final = frozenset({"init", "loop", "parse", "upgrade", "completion"})
_OWN: Final[Mapping[str, Mapping[str, str]]] = {
    "run": _SERVER,
    "cost": {"ML_ASSETS_PRICES": "the file with prices"},
    "serve": {
        "ML_ASSETS_SERVE_TOKEN": "the token that requests must have",
        "ML_ASSETS_HASH_KEY": "the key of the hashes of personal values in the request log",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces are exported, with the extra otel",
    },
    "ui": {"DAGSTER_HOME": "the folder of Dagster's own state (default: .dagster of the project)"},
}


def help_end(command: str) -> str:
    """Return the last part of a command's help."""
    settings = {**({} if command in _WITHOUT_LAKE else _LAKE | _AWS), **_OWN.get(command, {})}
    width = max(map(len, settings), default=0)
    parts = {
        "examples": [f"ml-assets {example}" for example in EXAMPLES.get(command, ())],
        "environment": [f"{name:{width}}  {meaning}" for name, meaning in settings.items()],
    }
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {it}" for it in lines)]) for title, lines in parts.items() if lines
    )

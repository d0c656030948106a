"""The alert itself, and what removes secrets from its texts.

Not here: the channels (see `ml_assets.alerts.channels`), and what prevents sending an alert twice (see
`ml_assets.alerts.outbox`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, get_args

from ml_assets.secrets import redact

Kind = Literal[
    "run_failed", "check_failed", "freshness_missed", "challenger_rejected", "challenger_promoted",
    "challenger_pending", "challenger_online", "challenger_withdrawn", "rolled_back", "quarantine_over_limit",
    "retraining_requested", "over_budget",
    "champion_refused", "degenerate_output", "drift_over_limits", "performance_behind", "update_blocked",
]  # fmt: skip
Severity = Literal["error", "warning", "info"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
USUAL: Final = frozenset(KINDS) - {"retraining_requested"}

_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIAL|(^|_)TOKEN(_|$)")


@dataclass(frozen=True)
class Alert:
    """One event that a person should know of.

    Attributes:
        subject: the asset or the model.
        body: what happened and how to respond, in sentences.
        key: built from facts such as a run's id, so that every process computes the same key for the same event.
        occurred_at: when the event happened, with its time zone; not when it was noticed.
        link: the path in the web UI, such as `/runs/<id>`.
    """

    kind: Kind
    subject: str
    title: str
    body: str
    key: str
    occurred_at: datetime
    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    severity: Severity = "error"
    link: str | None = None

    def __post_init__(self) -> None:
        if self.occurred_at.tzinfo is None:
            raise ValueError(f"alert '{self.key}' has the time {self.occurred_at} without a time zone; expected UTC.")

    def rewritten(self, clean: Callable[[str], str]) -> "Alert":
        """Return the alert with all its texts rewritten."""
        facts = {name: clean(fact) if isinstance(fact, str) else fact for name, fact in self.facts.items()}
        return replace(
            self, subject=clean(self.subject), title=clean(self.title), body=clean(self.body), facts=facts
        )  # fmt: skip


class Redactor:
    """Removes secrets from texts: those of channels, of the environment, and those in addresses."""

    def __init__(self, own: Iterable[str], environment: Mapping[str, str]) -> None:
        """Collect the secrets: those of channels, and of environment variables whose names suggest secrets."""
        named = [value for name, value in environment.items() if _SECRET_NAME.search(name) and not _is_place(name)]
        # Shorter values occur in ordinary words too, and reveal little.
        self._secrets = sorted({text for text in [*own, *named] if len(text) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text without secrets and without characters that not every channel accepts."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = redact(text.encode(errors="replace").decode())  # a file name may contain invalid UTF-8
        return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _is_place(name: str) -> bool:
    return name.endswith(("_FILE", "_PATH", "_DIR"))

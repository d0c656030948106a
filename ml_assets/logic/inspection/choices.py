"""What may be inferred of a table or stated by the user: one choice each, with its evidence."""

from dataclasses import dataclass, replace
from typing import Literal

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.periods import Grain

Confidence = Literal["given", "sure", "likely", "uncertain"]


@dataclass(frozen=True)
class Choice:
    """One inferred or given property of a table.

    Attributes:
        why: the evidence, as a sentence without its subject.
        others: what it could be as well.
        columns: the columns of a key.
    """

    value: str
    why: str
    confidence: Confidence
    others: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """What the user stated; None where nothing was."""

    task: Task | None = None
    positive: str | None = None
    key: tuple[str, ...] = ()
    time: str | None = None
    known: str | None = None
    label_known: str | None = None
    horizon: str | None = None
    grain: Grain | None = None
    group: str | None = None
    weight: str | None = None

    def with_answer(self, what: str, answer: str) -> "Given":
        """Return it with one more choice of the user; a label is known at a column, or some time after the event."""
        if what == "key":
            return replace(self, key=tuple(answer.split(",")))
        if what == "label_known" and answer[0].isdigit():
            return replace(self, horizon=answer)
        named = {"positive": replace(self, positive=answer), "time": replace(self, time=answer),
                 "known": replace(self, known=answer), "label_known": replace(self, label_known=answer),
                 "group": replace(self, group=answer)}  # fmt: skip
        return named[what]

    @property
    def columns(self) -> dict[str, str]:
        """The named columns, by the flag that names each."""
        named = {"--time": self.time, "--known": self.known, "--label-known": self.label_known, "--group": self.group,
                 "--weight": self.weight}  # fmt: skip
        return {f"--key {it}": it for it in self.key} | {flag: it for flag, it in named.items() if it is not None}

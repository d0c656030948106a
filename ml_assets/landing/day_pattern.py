"""Parses paths with a day in them, such as `landing/orders/{day}.csv`, and matches names against them. Light to import.

Not here: the existing files (see `ml_assets.landing.listing`).
"""

import functools
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from ml_assets.contracts.periods import BY_DAY, BY_HOUR, Grain
from ml_assets.secrets import without_secret

_ISO: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
_DIGITS: Final = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2}
_OF_DAY: Final = ({"%Y", "%m", "%d"}, {"%Y", "%j"})
_FORMS: Final = (("%Y", "%m", "%d"), ("%Y", "%j"), ("%Y", "%m"))
_S3: Final = "s3://"


@dataclass(frozen=True)
class _Token:
    """A piece of a path component: a text, a wildcard (`*`), or a directive of the day (`%Y`).

    Attributes:
        is_of_day: whether a text is part of the day's format, such as the dashes in 2024-01-31.
    """

    kind: Literal["text", "any", "day"]
    text: str = ""
    is_of_day: bool = False

    def regex(self, *, is_first: bool, is_strict: bool) -> str:
        if self.kind == "text" and not (self.is_of_day and not is_strict):
            return re.escape(self.text)
        if self.kind == "any":
            return r"(?!\.)[^/]*" if is_first else "[^/]*"  # as in a shell, `*` does not match hidden files
        return f"([0-9]{{{_DIGITS[self.text]}}})" if is_strict else "[^/]*"


Part = tuple[_Token, ...]


@dataclass(frozen=True)
class DayPattern:
    """A folder or S3 prefix, and the pattern of the paths below it.

    Attributes:
        root: the folder or `s3://bucket` before the first day or `*`. Nothing outside of it is read.
    """

    text: str
    root: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, text: str) -> "DayPattern":
        """Parse a pattern.

        Raises:
            ValueError: it is not a pattern. The message names what is expected.
        """
        is_s3, parts, plain = _parsed(text, _tokens)
        if plain == len(parts) or not any(token.kind == "day" for part in parts for token in part):
            raise ValueError(f"'{text}' has no day in it; expected {{day}}, as in landing/orders/{{day}}.csv")
        directives = {token.text for part in parts for token in part if token.kind == "day"}
        if "{hour" in text and not any(directives >= {*wanted, "%H"} for wanted in _OF_DAY):
            raise ValueError(f"'{text}' does not contain year, month, day and hour; use {{hour}}, or {{hour:%Y}} …")
        if not any(directives >= wanted for wanted in _OF_DAY) and directives not in ({"%Y", "%m"}, {"%Y"}):
            raise ValueError(f"'{text}' does not contain year, month and day; use {{day}}, or {{day:%Y}}, {{day:%m}} …")
        return cls._cut(text, parts, plain, is_s3=is_s3)

    @classmethod
    def of_files(cls, text: str) -> "DayPattern":
        """Parse a pattern without a day, where only `*` has a meaning.

        Raises:
            ValueError: it is not a pattern. The message names what is expected.
        """
        is_s3, parts, plain = _parsed(text, _literals)
        return cls._cut(text, parts, plain, is_s3=is_s3)

    @classmethod
    def _cut(cls, text: str, parts: Sequence[Part], plain: int, *, is_s3: bool) -> "DayPattern":
        """Return a pattern whose first `plain` parts are its folder; on S3, whose first part is the bucket."""
        if is_s3 and not plain:
            raise ValueError(f"'{text}' has no fixed bucket; expected s3://bucket/prefix/…")
        cut = 1 if is_s3 else plain
        root = "/".join(_text(part) for part in parts[:cut])
        if is_s3:
            return cls(text, f"{_S3}{root}", tuple(parts[cut:]))
        return cls(text, root or ("/" if text.startswith("/") else "."), tuple(parts[cut:]))

    @property
    def grain(self) -> Grain:
        """What a name states: an hour, a day or, without its day, a month or a year."""
        directives = {*self._directives}
        if "%H" in directives:
            return BY_HOUR
        if any(directives >= wanted for wanted in _OF_DAY):
            return BY_DAY
        return "month" if "%m" in directives else "year"

    @property
    def is_s3(self) -> bool:
        """Whether the pattern matches objects of a bucket."""
        return self.root.startswith(_S3)

    @functools.cached_property
    def prefix(self) -> str:
        """The common prefix of all paths below the root."""
        found = ""
        for n, part in enumerate(self.parts):
            found += "/" if n else ""
            for token in part:
                if token.kind != "text":
                    return found
                found += token.text
        return found

    def for_day(self, day: date) -> "DayPattern":
        """Return the pattern for the files of one day."""
        parts = (
            tuple(_Token("text", day.strftime(it.text)) if it.kind == "day" else it for it in part)
            for part in self.parts
        )
        return DayPattern(self.text, self.root, tuple(parts))

    def literal(self, depth: int) -> str | None:
        """Return the only name that a component matches; None if it may match several."""
        return _text(self.parts[depth]) if _is_text(self.parts[depth]) else None

    def is_like(self, depth: int, name: str) -> bool:
        """Return whether a component matches a name, even if the day in it is not valid."""
        return self._loose[depth].fullmatch(name) is not None

    def matches(self, relative: str) -> bool:
        """Return whether a path below the root has the pattern. Whether its day exists is not checked."""
        return self._strict.fullmatch(relative) is not None

    def resembles(self, relative: str) -> bool:
        """Return whether a path below the root matches except for its day."""
        names = relative.split("/")
        return len(names) == len(self.parts) and all(map(self.is_like, range(len(names)), names))

    def day_of(self, relative: str) -> date | None:
        """Return the day of a path below the root, or the first day of its month or year; None if it does not match.

        A name with an hour has the moment at which it begins (UTC).
        """
        found = self._strict.fullmatch(relative)
        if found is None:
            return None
        values: dict[str, set[str]] = {}
        for directive, text in zip(self._directives, found.groups(), strict=True):
            values.setdefault(directive, set()).add(text)
        if any(len(digits) > 1 for digits in values.values()):
            return None
        forms = [*next((it for it in _FORMS if values.keys() >= {*it}), ("%Y",)), *values.keys() & {"%H"}]
        try:
            begin = datetime.strptime(" ".join(values[it].copy().pop() for it in forms), " ".join(forms))  # noqa: DTZ007 - a day or an hour of UTC
        except ValueError:
            return None
        day = begin if "%H" in values else begin.date()
        return day if all(day.strftime(it) in digits for it, digits in values.items()) else None

    @functools.cached_property
    def _directives(self) -> Sequence[str]:
        return [token.text for part in self.parts for token in part if token.kind == "day"]

    @functools.cached_property
    def _strict(self) -> re.Pattern[str]:
        return re.compile("/".join(_regex(part, is_strict=True) for part in self.parts))

    @functools.cached_property
    def _loose(self) -> Sequence[re.Pattern[str]]:
        return [re.compile(_regex(part, is_strict=False)) for part in self.parts]


def _parsed(text: str, tokens: Callable[[str], Iterator[_Token]]) -> tuple[bool, list[Part], int]:
    """Return whether a pattern is on S3, its parts, and how many of them are plain text at its beginning."""
    is_s3, path = text.startswith(_S3), text.removeprefix(_S3)
    _check_place(path, is_s3=is_s3, text=text)
    parts = [*_split(tokens(path))]
    return is_s3, parts, next((n for n, part in enumerate(parts) if not _is_text(part)), len(parts))


def _check_place(path: str, *, is_s3: bool, text: str) -> None:
    without_secret(text)
    if not is_s3 and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise ValueError(
            f"'{text}' is neither a folder nor s3://bucket/prefix, as 'files' requires; use 'file' for a URL"
        )
    if not path.isprintable() or "\\" in path:
        raise ValueError(f"{text!r} has characters that are not allowed in paths")
    inner = path.removeprefix("/").split("/")
    if ".." in inner or (is_s3 and not {"", "."}.isdisjoint(inner)):
        raise ValueError(f"'{text}' has an empty part, or '..'; remove it")


def _tokens(path: str) -> Iterator[_Token]:
    """Yield the pieces of a pattern. A '/' is a piece of its own."""
    try:
        pieces = [*string.Formatter().parse(path)]
    except ValueError as error:
        raise ValueError(f"'{path}' is not a pattern: {error}; write {{{{ for a brace") from error
    for text, name, form, conversion in pieces:
        yield from _literals(text)
        if name is None:
            continue
        if name not in _ISO or conversion:
            raise ValueError(f"'{path}' contains '{{{name}}}'; expected {{day}} or {{day:%Y%m%d}}")
        for piece in re.findall(r"%.?|[^%]+", form or _ISO[name]):
            if not piece.startswith("%"):
                yield from (_Token("text", it, is_of_day=it != "/") for it in re.findall("/|[^/]+", piece))
            elif piece in _DIGITS and (piece != "%H" or name == BY_HOUR):
                yield _Token("day", piece)
            else:
                known = ", ".join(it for it in _DIGITS if it != "%H" or name == BY_HOUR)
                raise ValueError(f"'{path}' has '{piece}' in its {name}; expected some of {known}")


def _literals(text: str) -> Iterator[_Token]:
    for piece in re.findall(r"\*+|/|[^*/]+", text):
        if piece.startswith("**"):
            raise ValueError(f"'{piece}' is not supported; a '*' matches any text within one name")
        yield _Token("any") if piece == "*" else _Token("text", piece)


def _split(tokens: Iterator[_Token]) -> Iterator[Part]:
    part: list[_Token] = []
    for token in tokens:
        if token == _Token("text", "/"):
            yield tuple(part)
            part = []
        else:
            part.append(token)
    yield tuple(part)


def _is_text(part: Part) -> bool:
    return all(token.kind == "text" for token in part)


def _text(part: Part) -> str:
    return "".join(token.text for token in part)


def _regex(part: Part, *, is_strict: bool) -> str:
    found = "".join(token.regex(is_first=n == 0, is_strict=is_strict) for n, token in enumerate(part))
    return re.sub(r"(\[\^/\]\*){2,}", "[^/]*", found)  # repeated wildcards would make matching slow

"""Check a LightGBM text before LightGBM parses it, because its parser crashes or hangs on malformed trees (4.7.0).

Everything that LightGBM 4 writes for the tasks of this project is valid, including linear trees. Digests are not
sufficient: whoever can write to the lake can also write a digest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.objective import Objective

Integers = npt.NDArray[np.int64]

MAX_DEPTH: Final = 2_000
"""Maximum depth of a tree. SHAP values need memory for its square, and LightGBM walks a tree by recursion."""

_NUMBER: Final = r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?"
_END: Final = "end of trees\n"
_HEADER: Final = (
    r"tree\n",
    r"version=v4\n",
    r"num_class=(?P<num_class>\d{1,9})\n",
    r"num_tree_per_iteration=(?P<num_tree_per_iteration>\d{1,9})\n",
    r"label_index=0\n",
    r"max_feature_idx=(?P<max_feature_idx>\d{1,9})\n",
    r"objective=(?P<objective>[^\n]*)\n",
    r"(?:average_output\n)?",
    r"feature_names=(?P<feature_names>[^\n=]*)\n",
    r"(?:monotone_constraints=(?P<monotone_constraints>[^\n]*)\n)?",
    r"feature_infos=(?P<feature_infos>[^\n=]*)\n",
    r"tree_sizes=(?P<tree_sizes>[\d ]*)\n",
    r"\n",
)
_LISTS: Final = (
    "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child", "leaf_value",
    "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count",
)  # fmt: skip
_TREE: Final = (
    r"Tree=(?P<number>\d{1,9})\n",
    r"num_leaves=(?P<num_leaves>\d{1,9})\n",
    r"num_cat=(?P<num_cat>\d{1,9})\n",
    *(rf"{name}=(?P<{name}>.*)\n" for name in _LISTS),
    r"(?:cat_boundaries=(?P<cat_boundaries>.*)\ncat_threshold=(?P<cat_threshold>.*)\n)?",
    r"is_linear=(?P<is_linear>[01])\n",
    (
        r"(?:leaf_const=(?P<leaf_const>.*)\nnum_features=(?P<num_features>.*)\n"
        r"leaf_features=(?P<leaf_features>.*)\nleaf_coeff=(?P<leaf_coeff>.*)\n)?"
    ),
    r"shrinkage=(?P<shrinkage>.*)\n",
    r"\n\n",
)
_HEADER_PATTERN: Final = re.compile("".join(_HEADER), re.ASCII)
_TREE_PATTERN: Final = re.compile("".join(_TREE), re.ASCII)
_MAY_BE_INFINITE: Final = ("split_gain", "threshold")
"""LightGBM splits missing from present values at infinity, and gains overflow its float32."""

_RAGGED: Final = ("leaf_features", "leaf_coeff")
"""LightGBM writes a blank for a leaf without numbers."""

_VALUES: Final = {
    "monotone_constraints": re.compile("-1|0|1"),
    "feature_infos": re.compile(rf"none|\[{_NUMBER}:{_NUMBER}\]|-?\d+(?::-?\d+)*", re.ASCII),
}
_OBJECTIVES: Final[Mapping[Task, str]] = {
    "binary": rf"binary sigmoid:{_NUMBER}",
    "regression": "regression( sqrt)?",
    "multiclass": "multiclass num_class:{outputs}",
    "ranking": "lambdarank",
}
_LARGEST: Final = 2**31 - 1


_CLASSES: Final = ("\n", " ", "-", "0123456789", ".", "e", "+", "~")
"""Classes of characters: a line has the numbers of one tree, `~` is infinity."""
_LINE_END: Final = 1 << 0
_GAP: Final = _LINE_END | 1 << 1
"""The bits of the first class, and of the first two, in `_Pairs`."""


@dataclass(frozen=True)
class _Pairs:
    """Which characters may follow which, to check that a text consists of numbers separated by one blank.

    Attributes:
        own: The bit of each character's class; 0 if the character is not part of a number.
        following: The bits of the classes that may follow each character.
    """

    own: bytes
    following: bytes

    @classmethod
    def of(cls, *allowed: str) -> _Pairs:
        """Return the allowed pairs. `9` means any digit; a line begins and ends as a blank does, or is empty."""
        place = {character: number for number, some in enumerate(_CLASSES) for character in some}
        own, following = bytearray(256), bytearray(256)
        for character, number in place.items():
            own[ord(character)] = 1 << number
        pairs = {(place[pair[0]], place[pair[1]]) for pair in allowed}
        pairs |= {(0, other) for one, other in pairs if one == place[" "]} | {(0, 0)}
        pairs |= {(one, 0) for one, other in pairs if other == place[" "]}
        for one, other in pairs:
            for character in _CLASSES[one]:
                following[ord(character)] |= 1 << other
        return cls(bytes(own), bytes(following))


_WHOLE: Final = _Pairs.of(" 9", " -", "-9", "99", "9 ")
_REAL: Final = _Pairs.of(" 9", " -", "-9", "99", "9 ", "9.", ".9", "9e", "e-", "e+", "e9", "+9", " ~", "-~", "~ ")
_MOST_DIGITS: Final = 18
"""Maximum number of digits of an integer, so that it fits into 64 bits."""
_LONGEST: Final = 40
"""Maximum number of characters of a number; LightGBM writes at most 25."""

_EXTREME: Final = re.compile(rb"e(?:\+?\d|-[3-9]|-\d\d)\d\d")
"""Matches numbers of at least 1e100 or below 1e-299, which crash LightGBM in linear trees."""

_QUOTED: Final = 60
"""Maximum number of characters that a message quotes."""


class MalformedModelError(ValueError):
    """LightGBM did not write this text, or it belongs to another model; the message is a clause with tree and field."""


def checked_trees(
    text: str, *, names: Sequence[str], task: Task, classes: int, objective: Objective | None = None
) -> str:
    """Return the part of a model's text that predictions need, header and trees, if LightGBM can parse it safely.

    Raises:
        MalformedModelError: LightGBM did not write this text, or it belongs to another model.
    """
    if not text.isascii():
        raise MalformedModelError("it has characters outside ASCII")
    header = _HEADER_PATTERN.match(text)
    if header is None:
        raise MalformedModelError(_first_difference(_HEADER, text))
    outputs = classes if task == "multiclass" else 1
    expected = _OBJECTIVES[task].replace("{outputs}", str(outputs))
    if objective is not None and objective.loss != "mse":
        expected = str(objective.lightgbm["objective"])
    _check_header(header, names, task=task, objective=expected, outputs=outputs)
    trees = _trees(text, header)
    if len(trees) % outputs:
        raise MalformedModelError(f"it has {len(trees)} trees for {outputs} classes")
    if trees:
        _check_trees(_Trees.of(trees), features=len(names))
    return text[: (trees[-1] if trees else header).end()] + _END


def _first_difference(parts: Sequence[str], text: str, place: int = 0) -> str:
    """Return the first line that does not match its pattern."""
    for part in parts:
        found = re.compile(part, re.ASCII).match(text, place)
        if found is None:
            got = text[place : place + _QUOTED].partition("\n")[0]
            expected = part.partition("=")[0].replace(r"\n", "") or "an empty line"
            return f"expected {expected}, got {got!r}"
        place = found.end()
    return "it differs from what LightGBM writes"


def _check_header(header: re.Match[str], names: Sequence[str], *, task: Task, objective: str, outputs: int) -> None:
    if (got := header["feature_names"].split(" ")) != [*names]:
        had, wanted = (", ".join(map(unquote, some)) for some in (got, names))
        raise MalformedModelError(f"it has the features {had}; its spec has {wanted}")
    expected = {"num_class": outputs, "num_tree_per_iteration": outputs, "max_feature_idx": len(names) - 1}
    for field, value in expected.items():
        if int(header[field]) != value:
            raise MalformedModelError(f"{field}: expected {value}, got {header[field]}")
    if not re.fullmatch(objective, header["objective"], re.ASCII):
        raise MalformedModelError(
            f"objective: {header['objective'][:_QUOTED]!r} is not valid for a {task} model with {outputs} output(s)"
        )
    for field, pattern in _VALUES.items():
        if header[field] is not None:
            values = header[field].split(" ")
            odd = [value for value in values if not pattern.fullmatch(value)]
            if odd or len(values) != len(names):
                raise MalformedModelError(
                    f"{field}: {odd[0][:_QUOTED]!r} is not a value that LightGBM writes"
                    if odd
                    else f"{field}: expected {len(names)} values, got {len(values)}"
                )


def _trees(text: str, header: re.Match[str]) -> list[re.Match[str]]:
    """Return the trees, which follow each other without a gap, each with the length that the header states."""
    trees: list[re.Match[str]] = []
    place = header.end()
    for number, size in enumerate(header["tree_sizes"].split()):
        tree = _TREE_PATTERN.match(text, place)
        if tree is None:
            raise MalformedModelError(f"tree {number}: {_first_difference(_TREE, text, place)}")
        if (tree["number"], size) != (str(number), str(tree.end() - place)):
            raise MalformedModelError(
                f"tree {number}: it has the number {tree['number']} and {tree.end() - place} characters; "
                f"tree_sizes has {size[:_QUOTED]}"
            )
        trees.append(tree)
        place = tree.end()
    if not text.startswith(_END, place):
        got = text[place : place + _QUOTED].partition("\n")[0]
        raise MalformedModelError(f"expected 'end of trees' after {len(trees)} trees, got {got!r}")
    return trees


@dataclass(frozen=True)
class _Numbers:
    """The integers of one field of several trees, with the position of their tree."""

    name: str
    values: Integers
    tree: Integers

    def within(self, least: npt.ArrayLike, most: npt.ArrayLike) -> Integers:
        """Return the numbers.

        Raises:
            MalformedModelError: a number is outside its range, which includes both ends.
        """
        low, high = np.broadcast_to(least, self.values.shape), np.broadcast_to(most, self.values.shape)
        if (wrong := np.flatnonzero((self.values < low) | (self.values > high))).size:
            n = wrong[0]
            raise MalformedModelError(
                f"tree {self.tree[n]}: {self.name}: expected {low[n]} to {high[n]}, got {self.values[n]}"
            )
        return self.values


@dataclass(frozen=True)
class _List:
    """The numbers of one field of several trees as text, one line per tree.

    Attributes:
        text: The whole text; infinity is `~`.
        starts: Start of each number.
        ends: Position after each number.
    """

    text: bytes
    starts: Integers
    ends: Integers

    @property
    def most_characters(self) -> int:
        """The largest number of characters of a number."""
        return int((self.ends - self.starts).max(initial=0))

    def whole(self) -> Integers:
        """Return the numbers, which have an optional sign and at most `_MOST_DIGITS` digits."""
        data = np.frombuffer(self.text, dtype=np.uint8)
        is_negative = data[self.starts] == ord("-")
        count = self.ends - self.starts - is_negative
        values = np.zeros(len(count), dtype=np.int64)
        for back in range(1, int(count.max(initial=0)) + 1):
            digits = data[self.ends - np.minimum(back, count)].astype(np.int64) - ord("0")
            values += np.where(back <= count, digits * 10 ** (back - 1), 0)
        return np.where(is_negative, -values, values)


@dataclass(frozen=True)
class _Trees:
    """Some of the trees, with their positions among all trees.

    Attributes:
        fields: By name, the text of each tree; None if a tree does not have the field.
        places: Position of each tree.
    """

    fields: Mapping[str, Sequence[str | None]]
    places: Integers

    @classmethod
    def of(cls, trees: Sequence[re.Match[str]]) -> _Trees:
        """Return all trees."""
        columns = zip(*(tree.groups() for tree in trees), strict=True)
        return cls(dict(zip(_TREE_PATTERN.groupindex, columns, strict=True)), np.arange(len(trees)))

    def having(self, field: str) -> _Trees:
        """Return the trees that have a field."""
        has = [text is not None for text in self.fields[field]]
        fields = {name: [*itertools.compress(texts, has)] for name, texts in self.fields.items()}
        return _Trees(fields, self.places[has])

    def number(self, name: str) -> Integers:
        """Return a field that is one integer per tree."""
        return np.array([int(text or "") for text in self.fields[name]], dtype=np.int64)

    def numbers(self, name: str, counts: npt.ArrayLike) -> _Numbers:
        """Return the integers of a field.

        Raises:
            MalformedModelError: a tree has another number of them, or something else.
        """
        listed = self._listed(name, counts, _WHOLE)
        if listed.most_characters > _MOST_DIGITS:
            raise MalformedModelError(f"{name}: it has a number of more than {_MOST_DIGITS} characters")
        return _Numbers(name, listed.whole(), np.repeat(self.places, np.broadcast_to(counts, len(self.places))))

    def check_reals(self, name: str, counts: npt.ArrayLike) -> _List:
        """Check the real numbers of a field. They are not converted, because that takes most of LightGBM's time.

        Raises:
            MalformedModelError: a tree has another number of them, something else, or a number that may not be finite.
        """
        listed = self._listed(name, counts, _REAL)
        if b"~" in listed.text and name not in _MAY_BE_INFINITE:
            raise MalformedModelError(f"{name}: it has a number that is not finite")
        is_extreme = name not in _MAY_BE_INFINITE and _EXTREME.search(listed.text)
        if is_extreme or listed.most_characters > _LONGEST:
            raise MalformedModelError(
                f"{name}: it has a number of more than {_LONGEST} characters, or beyond 1e-299 to 1e99"
            )
        return listed

    def _listed(self, name: str, counts: npt.ArrayLike, allowed: _Pairs) -> _List:
        """Return the numbers of all trees."""
        texts = [text or "" for text in self.fields[name]]
        if name in _RAGGED:
            texts = [" ".join(filter(None, text.split(" "))) for text in texts]
        joined = "\n".join(["", *texts, ""]).encode().replace(b"~", b"?").replace(b"inf", b"~")
        own = np.frombuffer(joined.translate(allowed.own), dtype=np.uint8)
        gaps = np.flatnonzero((own & _GAP) != 0)
        lines = np.flatnonzero(own[gaps] == _LINE_END)
        found = np.diff(lines) - (np.diff(gaps[lines]) == 1)  # an empty line has no number
        wanted = np.broadcast_to(counts, found.shape)
        if (wrong := np.flatnonzero(found != wanted)).size:
            n = wrong[0]
            raise MalformedModelError(f"tree {self.places[n]}: {name}: expected {wanted[n]} numbers, got {found[n]}")
        fits = np.frombuffer(joined.translate(allowed.following), dtype=np.uint8)[:-1] & own[1:]
        if not fits.min(initial=1):
            place = int((fits != 0).argmin())
            got = joined[max(0, place - 10) : place + 20].decode().strip().replace("\n", " ").replace("~", "inf")
            raise MalformedModelError(f"{name}: '{got}' is not a list of numbers")
        starts, ends = gaps[:-1] + 1, gaps[1:]
        if not wanted.all():
            starts, ends = (some[gaps[1:] > gaps[:-1] + 1] for some in (starts, ends))
        return _List(joined, starts, ends)


def _check_trees(trees: _Trees, *, features: int) -> None:
    leaves = trees.number("num_leaves")
    if (empty := np.flatnonzero(leaves < 1)).size:
        raise MalformedModelError(f"tree {empty[0]}: num_leaves: expected at least 1, got 0")
    splits = leaves - 1
    trees.numbers("leaf_count", leaves).within(0, _LARGEST)
    trees.numbers("internal_count", splits).within(0, _LARGEST)
    trees.numbers("split_feature", splits).within(0, features - 1)
    trees.check_reals("leaf_value", leaves)
    for name in ("split_gain", "internal_value", "internal_weight"):
        trees.check_reals(name, splits)
    trees.check_reals("shrinkage", 1)
    is_weighed = np.array([bool(text) for text in trees.fields["leaf_weight"]])  # optional for a single leaf
    trees.check_reals("leaf_weight", np.where(is_weighed | (leaves > 1), leaves, 0))
    _check_children(trees, splits)
    _check_categories(trees, splits)
    _check_linear(trees, leaves, features=features)


def _check_children(trees: _Trees, splits: Integers) -> None:
    """Raise an error unless the splits of each tree form a tree. LightGBM numbers a split after its parent."""
    of_tree = np.repeat(trees.places, splits)
    first_split = np.repeat(np.cumsum(splits) - splits, splits)
    first_leaf = first_split + of_tree  # a tree has one more leaf than splits
    own = np.arange(len(of_tree))
    below = []
    seen_splits, seen_leaves = np.zeros(len(of_tree), np.int64), np.zeros((splits + 1).sum(), np.int64)
    for name in ("left_child", "right_child"):
        child = trees.numbers(name, splits).within(-splits[of_tree] - 1, splits[of_tree] - 1)
        is_split = child >= 0
        split = np.where(is_split, first_split + child, -1)
        if (wrong := np.flatnonzero(is_split & (split <= own))).size:
            raise MalformedModelError(f"tree {of_tree[wrong[0]]}: {name}: a split is below one with a higher number")
        seen_splits += np.bincount(split[is_split], minlength=len(seen_splits))
        seen_leaves += np.bincount((first_leaf + ~child)[~is_split], minlength=len(seen_leaves))
        below.append(split)
    is_root = first_split == own
    leaf_tree, is_lone = np.repeat(trees.places, splits + 1), np.repeat(splits == 0, splits + 1)
    wrong = np.concatenate([of_tree[seen_splits != ~is_root], leaf_tree[seen_leaves != ~is_lone]])
    if wrong.size:
        raise MalformedModelError(f"tree {wrong.min()}: left_child, right_child: a node has no parent, or several")
    level = own[is_root]
    for _ in range(MAX_DEPTH):
        if not level.size:
            break
        level = np.concatenate([side[level] for side in below])
        level = level[level >= 0]
    if level.size:
        raise MalformedModelError(f"tree {of_tree[level[0]]}: it is deeper than {MAX_DEPTH} splits")


def _check_categories(trees: _Trees, splits: Integers) -> None:
    """Raise an error unless each categorical split refers to its own part of the bit set, in order."""
    decision = trees.numbers("decision_type", splits)
    by_category = (decision.within(0, 11) & 1) == 1  # 2: missing values go left; 4, 8: which values are missing
    expected = np.bincount(decision.tree[by_category], minlength=len(splits))
    some = trees.having("cat_boundaries")
    named = np.bincount(some.places, minlength=len(splits))
    if (wrong := np.flatnonzero((trees.number("num_cat") != expected) | (named != (expected > 0)))).size:
        raise MalformedModelError(
            f"tree {wrong[0]}: num_cat and cat_boundaries do not match decision_type, which has "
            f"{expected[wrong[0]]} categorical splits"
        )
    threshold, of_tree = trees.check_reals("threshold", splits), decision.tree[by_category]
    numbers = np.arange(len(of_tree)) - np.repeat(np.cumsum(expected) - expected, expected)
    ends = zip(threshold.starts[by_category].tolist(), threshold.ends[by_category].tolist(), strict=True)
    for place, number, (start, end) in zip(of_tree.tolist(), numbers.tolist(), ends, strict=True):
        if threshold.text[start:end] != b"%d" % number:
            raise MalformedModelError(f"tree {place}: threshold: the categorical splits are not numbered in order")
    counts = expected[some.places]
    boundaries = some.numbers("cat_boundaries", counts + 1)
    bounds = boundaries.within(0, _LARGEST)
    last = np.cumsum(counts + 1) - 1
    steps = np.diff(bounds, prepend=0)
    steps[last - counts] = 1 - bounds[last - counts]  # the first of a tree is 0
    if (wrong := np.flatnonzero(steps < 1)).size:
        raise MalformedModelError(f"tree {boundaries.tree[wrong[0]]}: cat_boundaries do not ascend from 0")
    some.numbers("cat_threshold", bounds[last]).within(0, 2**32 - 1)


def _check_linear(trees: _Trees, leaves: Integers, *, features: int) -> None:
    """Raise an error unless the leaves of linear trees have as many features as coefficients."""
    for place, (is_linear, constant) in enumerate(
        zip(trees.fields["is_linear"], trees.fields["leaf_const"], strict=True)
    ):
        if (constant is not None) != (is_linear == "1"):
            raise MalformedModelError(f"tree {place}: leaf_const: expected if, and only if, is_linear=1")
    some = trees.having("leaf_const")
    counts = leaves[some.places]
    some.check_reals("leaf_const", counts)
    used = some.numbers("num_features", counts)
    totals = np.bincount(used.tree, weights=used.within(0, features), minlength=len(leaves)).astype(np.int64)
    some.numbers("leaf_features", totals[some.places]).within(0, features - 1)
    some.check_reals("leaf_coeff", totals[some.places])

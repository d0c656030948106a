"""LightGBM's text is checked before LightGBM parses it: what it writes passes, what it did not write never harms."""

import faulthandler
import json
import os
import random
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from ml_assets.contracts.artifacts.training import Task
from ml_assets.logic.training.model_text import MAX_DEPTH, MalformedModelError, checked_trees

NAMES = ["weight%20kg", "b", "%C3%A9", "d"]
ROWS = 600
KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "linear": {"linear_tree": True},
    "linear with one leaf": {"linear_tree": True, "min_data_in_leaf": 400},
    "dart": {"boosting": "dart"},
    "goss": {"data_sample_strategy": "goss"},
    "rf": {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    "zero as missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "monotone": {"monotone_constraints": [1, 0, -1, 0], "monotone_constraints_method": "advanced"},
    "one leaf": {"min_data_in_leaf": 400},
    "two leaves": {"num_leaves": 2},
    "many leaves": {"num_leaves": 300, "min_data_in_leaf": 0, "min_sum_hessian_in_leaf": 0},  # has a threshold 'inf'
    "quantized": {"use_quantized_grad": True, "quant_train_renew_leaf": True},
    "one category": {"max_cat_to_onehot": 100},
    "sigmoid": {"sigmoid": 0.5},
    "gain": {"saved_feature_importance_type": 1},
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(ROWS, 4))
    matrix[:, 3] = draw.integers(0, 40, ROWS)
    matrix[draw.random((ROWS, 4)) < 0.05] = np.nan
    return matrix, np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 3]) % 7 / 3


def classes(task: Task) -> int:
    return 3 if task == "multiclass" else 0


@cache
def text_of(task: Task, kind: str) -> str:
    matrix, value = rows()
    target = {"binary": value > 1, "regression": value, "multiclass": np.digitize(value, [0.5, 1.5])}[task]
    data = lightgbm.Dataset(matrix, target.astype(float), categorical_feature=[3], feature_name=NAMES)
    parameters = {"objective": task, "num_threads": 1, "verbose": -1, "seed": 1, "num_class": classes(task) or 1}
    return str(lightgbm.train({**parameters, **KINDS[kind]}, data, 4).model_to_string(num_iteration=-1))


def checked(text: str, task: Task = "binary") -> str:
    return checked_trees(text, names=NAMES, task=task, classes=classes(task))


def problem(text: str) -> str:
    with pytest.raises(MalformedModelError) as error:
        checked(text)
    return str(error.value)


def resized(text: str) -> str:
    """Set `tree_sizes` to match the trees, as a deliberate edit of a model would."""
    trees = text[text.find("Tree=0\n") : text.find("end of trees")]
    starts = [found.start() for found in re.finditer("^Tree=", trees, re.MULTILINE)] or [0]
    sizes = " ".join(str(end - start) for start, end in zip(starts, [*starts[1:], len(trees)], strict=True))
    return re.sub("tree_sizes=.*", f"tree_sizes={sizes}", text, count=1)


def edited(field: str, change: str, *, task: Task = "binary", kind: str = "plain") -> str:
    """Return a text whose first such field has another value, `{}` standing for the one it had."""
    text = text_of(task, kind)
    return resized(re.sub(rf"(?m)^{field}=(.*)$", lambda it: f"{field}={change.replace('{}', it[1])}", text, count=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_texts_written_by_lightgbm_are_valid_and_give_the_same_scores(task: Task, kind: str) -> None:
    text, (matrix, _) = text_of(task, kind), rows()

    trees = checked(text, task)

    whole, checked_only = (lightgbm.Booster(model_str=it).predict(matrix, num_threads=1) for it in (text, trees))
    np.testing.assert_array_equal(whole, checked_only)


def test_a_model_of_a_constant_and_one_stopped_early_pass() -> None:
    matrix, value = rows()
    parameters = {"objective": "regression", "num_threads": 1, "verbose": -1}
    constant = lightgbm.train(parameters, lightgbm.Dataset(matrix, np.ones(ROWS), feature_name=NAMES), 3)
    data = lightgbm.Dataset(matrix, value, feature_name=NAMES)
    stopping = {
        "valid_sets": [data.create_valid(matrix, -value)],
        "callbacks": [lightgbm.early_stopping(2, verbose=False)],
    }
    stopped = lightgbm.train(parameters, data, 60, **stopping)

    assert checked(constant.model_to_string(), "regression").endswith("end of trees\n")
    assert checked(stopped.model_to_string(), "regression").endswith("end of trees\n")


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("version", "v3", "expected version, got 'version=v3'"),
        ("num_class", "2", "num_class: expected 1, got 2"),
        ("num_tree_per_iteration", "0", "num_tree_per_iteration: expected 1, got 0"),
        ("max_feature_idx", "400000000", "max_feature_idx: expected 3, got 400000000"),
        ("objective", "lambdarank", "objective: 'lambdarank' is not valid for a binary model with 1 output(s)"),
        ("objective", "binary sigmoid:nan", "is not valid for a binary model"),
        ("feature_names", "{} e", "it has the features weight kg, b, é, d, e; its spec has weight kg, b, é, d"),
        ("feature_infos", "none", "feature_infos: expected 4 values, got 1"),
        ("Tree", "1", "tree 0: it has the number 1"),
        ("num_leaves", "0", "tree 0: num_leaves: expected at least 1, got 0"),
        ("num_leaves", "-5", "tree 0: expected num_leaves, got 'num_leaves=-5'"),
        ("num_leaves", "900000000", "expected 900000000 numbers"),
        ("num_cat", "7", "tree 0: num_cat and cat_boundaries do not match decision_type"),
        ("split_feature", "{} 1", "tree 0: split_feature: expected"),
        ("split_feature", "4{}", "tree 0: split_feature: expected 0 to 3"),
        ("split_gain", "", "tree 0: split_gain: expected"),
        ("threshold", "nan {}", "tree 0: threshold: expected"),
        ("decision_type", "1{}", "tree 0: decision_type: expected 0 to 11, got 1"),
        ("leaf_value", "{}e999", "leaf_value: it has a number of more than 40 characters, or beyond 1e-299 to 1e99"),
        ("leaf_value", "{}" + "9" * 50, "leaf_value: it has a number of more than 40 characters"),
        ("leaf_value", "{}e-300", "or beyond 1e-299 to 1e99"),
        ("leaf_count", "-{}", "tree 0: leaf_count: expected 0 to 2147483647, got -"),
        ("leaf_count", "9" * 19 + "{}", "leaf_count: it has a number of more than 18 characters"),
        ("cat_boundaries", "1{}", "cat_boundaries do not ascend from 0"),
        ("cat_threshold", "{} 7", "cat_threshold: expected"),
        ("is_linear", "1", "tree 0: leaf_const: expected if, and only if, is_linear=1"),
        ("is_linear", "2", "tree 0: expected is_linear, got 'is_linear=2'"),
        ("shrinkage", "inf", "shrinkage: it has a number that is not finite"),
    ],
)  # fmt: skip
def test_a_changed_field_is_refused_by_name(field: str, change: str, message: str) -> None:
    assert message in problem(edited(field, change))


def a_tree(left: str, right: str) -> str:
    """Return a model of one tree of four leaves with these children."""
    text = edited("num_leaves", "4", kind="many leaves")
    fields = {
        "num_cat": "0", "split_feature": "0 1 2", "split_gain": "1 1 1", "threshold": "0 0 0", "decision_type": "2 2 2",
        "left_child": left, "right_child": right, "leaf_value": "1 2 3 4", "leaf_weight": "1 1 1 1",
        "leaf_count": "1 1 1 1", "internal_value": "0 0 0", "internal_weight": "1 1 1", "internal_count": "4 3 2",
    }  # fmt: skip
    head = text[: text.index("Tree=0\n")]
    tree = "".join(f"{name}={value}\n" for name, value in {"num_leaves": "4", **fields}.items())
    return resized(f"{head}Tree=0\n{tree}is_linear=0\nshrinkage=1\n\n\nend of trees\n")


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ("1 2 0", "-2 -3 -4", "a split is below one with a higher number"),  # a cycle
        ("0 2 -1", "-2 -3 -4", "a split is below one with a higher number"),
        ("1 2 -1", "-2 -2 -4", "a node has no parent, or several"),
        ("2 2 -1", "-2 -3 -4", "a node has no parent, or several"),
        ("1 3 -1", "-2 -3 -4", "left_child: expected -4 to 2, got 3"),
        ("1 2 -1", "-2 -3 -5", "right_child: expected -4 to 2, got -5"),
        ("1-2 2 -1", "-2 -3 -4", "left_child: '1-2 2 -1' is not a list of numbers"),
        ("1  -1", "-2 -3 -4", "left_child: '1  -1' is not a list of numbers"),
    ],
)
def test_children_must_form_a_tree(left: str, right: str, message: str) -> None:
    assert message in problem(a_tree(left, right))


def test_infinity_is_only_written_as_inf() -> None:
    model = a_tree("1 2 -1", "-2 -3 -4")

    assert checked(resized(model.replace("split_gain=1 1 1", "split_gain=1 1 inf")))
    assert "split_gain: '1 1 ?' is not a list of numbers" in problem(
        model.replace("split_gain=1 1 1", "split_gain=1 1 ~")
    )


def test_a_tree_deeper_than_shap_values_can_be_computed_is_refused() -> None:
    splits = MAX_DEPTH + 1
    chain = {
        "num_leaves": [splits + 1], "num_cat": [0], "split_feature": [0] * splits, "split_gain": [1] * splits,
        "threshold": [0] * splits, "decision_type": [2] * splits, "left_child": [*range(1, splits), -splits - 1],
        "right_child": [-n for n in range(1, splits + 1)], "leaf_value": [1] * (splits + 1),
        "leaf_weight": [1] * (splits + 1), "leaf_count": [1] * (splits + 1), "internal_value": [0] * splits,
        "internal_weight": [1] * splits, "internal_count": [1] * splits, "is_linear": [0], "shrinkage": [1],
    }  # fmt: skip
    tree = "".join(f"{name}={' '.join(map(str, values))}\n" for name, values in chain.items())
    head = text_of("binary", "plain").partition("Tree=0\n")[0]

    assert f"it is deeper than {MAX_DEPTH} splits" in problem(resized(f"{head}Tree=0\n{tree}\n\nend of trees\n"))


def test_leaves_of_linear_trees_name_known_features() -> None:
    text = text_of("binary", "linear")

    assert "leaf_features: expected 0 to 3, got 9" in problem(text.replace("leaf_features=0 ", "leaf_features=9 "))
    assert "num_features: expected" in problem(edited("num_features", "{} 1", kind="linear"))
    assert "leaf_coeff: expected" in problem(edited("leaf_coeff", "{} 1", kind="linear"))


def mutated(text: str, draw: random.Random) -> str:
    """Return a text with one to three random faults, most of them in its trees, often with sizes that fit again."""
    for _ in range(draw.randint(1, 3)):
        lines = text.split("\n")
        first = draw.choice([0, next((n for n, line in enumerate(lines) if line.startswith("Tree=")), 0)])
        line = draw.randrange(first, max(first + 1, len(lines) - 150))
        name, _, value = lines[line].partition("=")
        numbers = value.split(" ")
        other = draw.choice(lines).partition("=")[2]
        odd = draw.choice(
            ["-1", "0", "1", "3", "4", "7", "12", "255", "-128", "-2147483648", "2147483647", "4294967295", "1e308",
             "nan", "-inf", "inf", "-", "", "1-2", "99999999999999999999", "0x7f", "\t", "\r", "\0", "1e-400", "e", "."]
        )  # fmt: skip
        place = draw.randrange(len(numbers))
        change = draw.randrange(10)
        if change == 0:
            lines[line] = f"{name}={odd}"
        elif change <= 4:
            numbers[place] = odd
            lines[line] = f"{name}={' '.join(numbers)}"
        elif change == 5:
            lines[line] = f"{name}={other}"
        elif change == 6:
            draw.shuffle(numbers)
            lines[line] = f"{name}={' '.join(numbers)}"
        elif change == 7:
            del lines[line]
        elif change == 8:
            lines.insert(line, draw.choice(lines))
        else:
            lines = "\n".join(lines)[: draw.randrange(1, len(text) + 1)].split("\n")
        text = "\n".join(lines)
        if draw.random() < 0.1:
            at = draw.randrange(len(text) + 1)
            text = text[:at] + chr(draw.randrange(128)) + text[at + 1 :]
    return resized(text) if draw.random() < 0.8 else text


def survive(seed: int, count: int) -> tuple[int, int]:
    """Try mutated texts, and return how many were refused and how many were loaded and scored."""
    matrix, _ = rows()
    draw, refused, scored = random.Random(seed), 0, 0  # noqa: S311 - a seeded choice of faults
    cases: list[tuple[Task, str]] = [("binary", kind) for kind in KINDS] + [
        ("multiclass", "plain"),
        ("regression", "rf"),
    ]
    for number in range(count):
        task, kind = draw.choice(cases)
        text = mutated(text_of(task, kind), draw)
        if case := os.environ.get("MUTATION"):
            Path(case).write_text(json.dumps([number, task, kind, text]))
        try:
            trees = checked(text, task)
            booster = lightgbm.Booster(model_str=trees)
        except (MalformedModelError, lightgbm.basic.LightGBMError):
            refused += 1
            continue
        faulthandler.dump_traceback_later(20, exit=True)
        assert booster.predict(matrix, num_threads=1).shape[0] == ROWS
        booster.predict(matrix[:20], pred_contrib=True, num_threads=1)
        faulthandler.cancel_dump_traceback_later()
        scored += 1
    return refused, scored


def test_a_mutated_text_is_refused_or_scores_without_a_crash() -> None:
    """A crash would end the tests, so the texts are tried in a process of their own."""
    code = f"from {__name__} import survive; print(*survive(7, 300))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    refused, scored = map(int, done.stdout.split())
    assert refused > scored > 10

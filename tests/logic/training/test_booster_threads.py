"""LightGBM's one number of threads, agreed on by all who call it at a time."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml_assets.logic.training.booster import Threads

SCORING = """
import os, time
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
from concurrent.futures import ThreadPoolExecutor
import lightgbm, numpy as np
from ml_assets.logic.training.booster import FEW_ROWS, raw_scores
rows = np.random.default_rng(0).normal(size=(2000, 30))
parameters = {"objective": "binary", "verbose": -1, "num_threads": 2}
text = lightgbm.train(parameters, lightgbm.Dataset(rows, (rows[:, 0] > 0).astype(float)), 5).model_to_string()
end = time.monotonic() + 2.5
def score(threads):
    booster, matrix = lightgbm.Booster(model_str=text), rows[:FEW_ROWS + 1]
    first = raw_scores(booster, matrix, classes=0, threads=threads)
    while time.monotonic() < end:
        assert (raw_scores(booster, matrix, classes=0, threads=threads) == first).all()
with ThreadPoolExecutor() as pool:
    print(len([*pool.map(score, (1, 2, 4, 16))]))
"""

TRAINING = """
import os
from concurrent.futures import ThreadPoolExecutor
import lightgbm, numpy as np
from ml_assets.logic.training.booster import Threads
rows = np.random.default_rng(0).normal(size=(2000, 30))
def count():
    return len(os.listdir("/proc/self/task"))
def train():
    with Threads().exactly(2):
        data = lightgbm.Dataset(rows, (rows[:, 0] > 0).astype(float))
        before = count()
        lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 2}, data, 5)
        during = count()
    print(during - before, count() - before)
with ThreadPoolExecutor(1) as pool:
    pool.submit(train).result()
"""


def test_rows_are_scored_concurrently_by_callers_with_different_numbers_of_threads() -> None:
    # Without the agreement this process ends by a segmentation fault, within a second or two.
    done = subprocess.run([sys.executable, "-c", SCORING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


def test_a_prediction_takes_the_number_that_is_in_use() -> None:
    threads = Threads()
    with threads.about(2) as own, threads.exactly(2), threads.about(8) as other:
        assert (own, other) == (2, 2)
    with threads.about(8) as own:
        assert own == 8


def test_a_training_waits_until_no_caller_uses_another_number() -> None:
    threads = Threads()
    begun = threading.Event()

    def train() -> bool:
        with threads.exactly(1):
            begun.set()
        return True

    with ThreadPoolExecutor() as pool:
        with threads.exactly(2):
            trained = pool.submit(train)
            assert not begun.wait(0.1)
        assert trained.result(timeout=60)


def test_a_call_that_fails_leaves_the_number_to_others() -> None:
    threads = Threads()
    with pytest.raises(ZeroDivisionError), threads.exactly(2):
        _ = 1 / 0
    with threads.exactly(3), threads.about(1) as agreed:
        assert agreed == 3


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_call_leaves_no_threads_that_would_slow_down_the_calls_of_others() -> None:
    # In a process of its own: in this one, threads of other tests may end between two counts.
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 0\n"), done.stderr

"""Steps on a thread of the run's own process, and who waits for them."""

import threading
import time

from ml_assets.kubernetes.local import LocalSteps


def test_a_waiter_is_woken_by_each_ended_step_even_one_that_ended_before() -> None:
    steps, go_on = LocalSteps(), threading.Event()
    steps.start("first", lambda: None)
    steps.start("second", lambda: go_on.wait() and None)
    begun = time.monotonic()

    steps.wait(60)
    threading.Timer(0.1, go_on.set).start()
    steps.wait(60)

    assert time.monotonic() - begun < 30
    assert [None, None] == [steps.problem("first"), steps.problem("second")]
    steps.close()


def test_waiting_for_steps_ends_after_the_given_time() -> None:
    begun = time.monotonic()

    LocalSteps().wait(0.05)

    assert 0.05 <= time.monotonic() - begun < 30

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.kubernetes.policy import PodPolicy
from ml_assets.kubernetes.quantity import bytes_of, bytes_text, cores_of, doubled


@pytest.mark.parametrize(
    ("text", "expected"), [("4Gi", 4 * 1024**3), ("1.5Gi", 1536 * 1024**2), ("512M", 512_000_000), ("100", 100)]
)
def test_an_amount_of_memory_is_so_many_bytes(text: str, expected: int) -> None:
    assert expected == bytes_of(text)


@pytest.mark.parametrize(("text", "expected"), [("500m", "0.5"), ("1.5", "1.5"), ("2", "2")])
def test_an_amount_of_cpu_is_so_many_cores(text: str, expected: str) -> None:
    assert expected == str(cores_of(text).normalize())


@pytest.mark.parametrize("text", ["two", "", "-1Gi", "4 Gi", "4gb", "1e3", "500m"])
def test_an_invalid_memory_quantity_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a value such as"):
        bytes_of(text)


@given(st.integers(1, 2**55))
def test_bytes_as_text_are_as_many_bytes(count: int) -> None:
    assert count == bytes_of(bytes_text(count))


@given(st.integers(1, 64), st.integers(0, 10), st.integers(1, 256))
def test_memory_doubles_and_never_passes_its_ceiling(start: int, times: int, ceiling: int) -> None:
    more = bytes_of(doubled(f"{start}Gi", times=times, ceiling=f"{ceiling}Gi"))

    assert min(start * 2**times, ceiling) * 1024**3 == more


def test_a_step_killed_for_memory_without_a_ceiling_is_not_retried_and_the_message_explains_how() -> None:
    policy = PodPolicy(memory="1Gi")

    assert policy.retry_message("PodOutOfMemory", []) is None
    assert "a 'memory_ceiling' to have it retried with more" in policy.no_retry_message("PodOutOfMemory")


def test_retries_for_lost_pods_and_for_memory_are_counted_separately_and_a_lost_run_pod_not_at_all() -> None:
    policy = PodPolicy(memory="1Gi", memory_ceiling="8Gi", retries=1)
    before = ["RunPodLost", "PodOutOfMemory", "RuntimeError", "PodOutOfMemory"]

    assert "retry 1 of 1" in str(policy.retry_message("PodLost", before))
    assert policy.retry_message("PodLost", [*before, "PodLost"]) is None
    assert "It is retried with 8Gi" in str(policy.retry_message("PodOutOfMemory", before))
    assert policy.retry_message("PodOutOfMemory", [*before, "PodOutOfMemory"]) is None
    assert "4Gi" == policy.memory_after(before)
    assert "It is retried." == policy.retry_message("RunPodLost", before)


@pytest.mark.parametrize("kind", ["PodNotStarted", "PodDiskFull", "PodPastDeadline", "PodFailed"])
def test_a_permanent_failure_is_not_retried(kind: str) -> None:
    policy = PodPolicy(memory="1Gi", memory_ceiling="8Gi", retries=5)
    assert policy.retry_message(kind, []) is None  # type: ignore[arg-type]


def test_a_policy_survives_its_tag() -> None:
    policy = PodPolicy(memory="1Gi", memory_ceiling="8Gi", retries=5, start_timeout_minutes=0.5)
    assert policy == PodPolicy.of({"ml_assets/pod": policy.text()})
    assert PodPolicy() == PodPolicy.of({})

"""How LightGBM's threads wait: set by the command, unless the user has set it."""

from ml_assets.machine.openmp import with_waiting


def test_threads_spin_briefly_unless_the_environment_says_otherwise() -> None:
    assert with_waiting({"OMP_WAIT_POLICY": "ACTIVE"}) == {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "3000"}

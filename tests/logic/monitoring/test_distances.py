import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.logic.monitoring.distances import (
    Cells,
    Profiles,
    count_sorted,
    count_unsorted,
    kolmogorov_smirnov,
    psi,
    sampling_psi,
    sorted_values,
    wasserstein,
)

wide = st.floats(allow_nan=False) | st.floats(-5, 5) | st.integers(-3, 3).map(float)
maybe = wide | st.none() | st.just(float("nan"))


def both(values: list[float | None], edges: list[float]) -> tuple[Cells, Cells]:
    column, rising = pl.Series(values, dtype=pl.Float64), np.unique(edges)
    return count_sorted(sorted_values(column), rising), count_unsorted(column, rising)


def totals(cells: Cells) -> list[float]:
    return [cells.total_below, *cells.total.tolist(), cells.total_above]


@given(st.lists(maybe, max_size=80), st.lists(wide, min_size=1, max_size=40))
def test_values_in_any_order_are_counted_as_sorted_ones_are(values: list[float | None], edges: list[float]) -> None:
    first, second = both(values, edges)

    assert first.values == second.values
    assert first.under.tolist() == second.under.tolist()
    assert first.up_to.tolist() == second.up_to.tolist()


@given(st.lists(st.floats(-1e6, 1e6), max_size=80), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(max_examples=50)
def test_values_in_any_order_add_up_as_sorted_ones_do(values: list[float], edges: list[float]) -> None:
    first, second = both([*values], edges)

    assert totals(first) == pytest.approx(totals(second), abs=1e-12 * sum(map(abs, values)))


@pytest.mark.parametrize(
    "edges",
    [
        [0.0], [0.0, 1.0], [0.0, 0.5, 1.0], [-1e300, *np.linspace(0, 1, 200), 1e300],
        [float("-inf"), *np.linspace(0, 1, 200), float("inf")],
        [float("-inf"), float("-inf"), 0.0, 0.5, float("inf"), float("inf")],
        [0.0, *np.nextafter(0.5, np.arange(2)), 0.5, 1.0], [0.0, *np.linspace(0, 1e-320, 50), 1.0],
        [*np.linspace(0, 1, 100), *np.linspace(1e9, 1e9 + 1, 100)],
    ],
    ids=lambda edges: f"{len(edges)} from {edges[0]:g} to {edges[-1]:g}",
)  # fmt: skip
def test_distant_and_adjacent_edges_are_distinguished(edges: list[float]) -> None:
    random = np.random.default_rng(1)
    near = [np.nextafter(edge, to) for edge in edges for to in (-np.inf, np.inf)]
    first, second = both([*edges, *near, *random.uniform(-1, 2, 200), *random.normal(1e9, 1, 50)], edges)

    assert first.under.tolist() == second.under.tolist()
    assert first.up_to.tolist() == second.up_to.tolist()


def test_a_column_longer_than_a_block_is_counted_whole() -> None:
    values = np.random.default_rng(1).normal(0, 1, 150_000)
    first, second = both(values.tolist(), [-2.0, -1.0, 0.0, 1.0, 2.0])

    assert first.up_to.tolist() == second.up_to.tolist()
    assert totals(first) == pytest.approx(totals(second), rel=1e-9)


def test_values_at_the_lowest_edge_leave_nothing_below_it() -> None:
    first, second = both([0.1] * 20_000, [0.1, 1.0])

    assert (first.total_below, second.total_below) == (0, 0)


@given(
    st.lists(
        st.tuples(*[st.lists(st.integers(-4, 4) | st.floats(-5, 5), min_size=1, max_size=30)] * 2),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_distances_of_many_columns_at_once_are_those_of_each(columns: list[tuple[list[float], list[float]]]) -> None:
    known = [count_sorted(np.sort(np.array(side, float)), np.unique(np.array(side, float))) for side, _ in columns]
    seen = [count_sorted(np.sort(np.array(day, float)), it.edges) for it, (_, day) in zip(known, columns, strict=True)]
    spreads = np.arange(1.0, len(known) + 1)
    ks = kolmogorov_smirnov(Profiles.of(known), Profiles.of(seen))
    areas = wasserstein(Profiles.of(known), Profiles.of(seen), spreads)

    for number, (one, other) in enumerate(zip(known, seen, strict=True)):
        alone = Profiles.of([one]), Profiles.of([other])
        assert ks[number] == kolmogorov_smirnov(*alone)[0]
        assert areas[number] == wasserstein(*alone, spreads[[number]])[0]


def textbook(reference: list[int], day: list[int]) -> float:
    """PSI by its definition, in plain Python; an empty bin counts as half a row."""
    p, q = ([max(count, 0.5) / sum(side) for count in side] for side in (reference, day))
    pairs = [(a, b) for a, b, *counts in zip(p, q, reference, day, strict=True) if any(counts)]
    return sum((b - a) * math.log(b / a) for a, b in pairs)


def test_psi_of_three_bins_equals_a_hand_calculation() -> None:
    # (0.4 - 0.5) ln(0.4 / 0.5) + (0.3 - 0.3) ln 1 + (0.3 - 0.2) ln(0.3 / 0.2) = 0.0223144 + 0 + 0.0405465
    assert psi(np.array([50, 30, 20]), np.array([40, 30, 30])) == pytest.approx(0.0628609, abs=1e-7)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=30))
def test_psi_is_that_of_the_textbook_never_below_zero_and_counts_both_sides_alike(
    counts: list[tuple[int, int]],
) -> None:
    reference, day = (np.array([1, *side]) for side in zip(*counts, strict=True))

    assert psi(reference, day) == pytest.approx(textbook(reference.tolist(), day.tolist()), abs=1e-12)
    assert psi(reference, day) >= 0
    assert psi(reference, day) == pytest.approx(psi(day, reference), abs=1e-12)


def test_two_samples_of_one_distribution_have_the_psi_of_sampling_alone() -> None:
    reference, generator = np.full(10, 20_000), np.random.default_rng(1)
    days = generator.multinomial(200, np.full(10, 0.1), size=2_000)
    expected = 9 * (1 / 200_000 + 1 / 200)

    assert np.mean([psi(reference, day) for day in days]) == pytest.approx(expected, rel=0.1)
    assert sampling_psi(reference, days).tolist() == pytest.approx([expected] * 2_000)


def test_psi_of_many_days_at_once_is_that_of_each_and_empty_bins_add_nothing() -> None:
    reference, days = np.array([60, 30, 10, 0]), np.array([[5, 3, 2, 0], [0, 0, 9, 1], [6, 3, 1, 0]])
    each = [float(psi(reference, day)) for day in days]

    assert psi(reference, days).tolist() == pytest.approx(each)
    assert psi(np.append(reference, 0), np.append(days[0], 0)) == pytest.approx(each[0])


def test_an_empty_bin_does_not_raise_the_psi_of_a_larger_day_if_rows_are_bounded() -> None:
    reference, day = np.array([50, 50]), np.array([100, 0])

    assert psi(reference, 10 * day) > psi(reference, day)
    assert psi(reference, 10 * day, most_rows=100) == pytest.approx(psi(reference, day))

"""The distinct values of an array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.arrays import unique_sorted


@given(st.lists(st.integers(-5, 5)))
def test_they_are_what_numpy_says(values: list[int]) -> None:
    given_values = np.array(values, dtype=np.int64)
    found = unique_sorted(given_values)
    np.testing.assert_array_equal(found, np.unique(given_values))
    assert found.dtype == given_values.dtype

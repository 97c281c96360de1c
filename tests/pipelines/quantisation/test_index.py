from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.quantisation.index import float_rows, int8_rows

# Smaller values than float32 holds with all its digits have no scale either.
values = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 1e-20 else 0.0)


@given(arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 8)), elements=values))
def test_int8_rows_are_within_half_a_step(rows: np.ndarray) -> None:
    found, scale = int8_rows(rows)
    assert found.dtype == np.int8
    assert scale.dtype == np.float32
    assert (np.abs(float_rows(found, scale) - rows) <= scale[:, None] * (0.5 + 1e-4)).all()
    largest = np.abs(rows).max(axis=1, initial=0.0)
    assert (np.abs(found).max(axis=1, initial=0) == np.where(largest > 0, 127, 0)).all()

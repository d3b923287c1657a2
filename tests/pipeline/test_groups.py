"""Groups of bounded size, cut from parts of any size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.groups import cut_groups


class Rows(tuple[int, ...]):
    """A part."""

    __slots__ = ()

    def take(self, rows: slice) -> Rows:
        return Rows(self[rows])


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 6))
def test_every_row_is_in_one_group_in_order_and_only_the_last_group_has_room(
    sizes: list[int], most: int
) -> None:
    rows = iter(range(100))
    parts = [Rows(next(rows) for _ in range(size)) for size in sizes]
    groups = list(cut_groups(parts, most))
    assert [row for group in groups for part in group for row in part] == list(range(sum(sizes)))
    counts = [sum(map(len, group)) for group in groups]
    assert all(count == most for count in counts[:-1])
    assert all(0 < count <= most for count in counts)


def test_a_part_that_fits_is_not_copied() -> None:
    part = Rows((1, 2))
    ((found, *_),) = cut_groups([part, Rows((3,))], 5)
    assert found is part

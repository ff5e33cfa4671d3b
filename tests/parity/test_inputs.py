"""Edges, draws and other sizes: in the domain, the same by their seed, and none forgotten."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from marwright.parity.backends import Array
from marwright.parity.inputs import Domain, Group, boundary, domain_of, drawn, other_shapes
from marwright.runtime.preprocess import image_array
from marwright.runtime.spec import ImageSpec
from tests.specs import numbers

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

COLOUR = ImageSpec(
    channels=3, height=6, width=8, fit="stretch", interpolation="bilinear",
    mean=(0.5, 0.25, 0.75), std=(0.25, 0.5, 0.125),
)  # fmt: skip
TABLE = numbers(
    ("a", "b", "c"), center=(0.0, 1.0, 2.0), scale=(1.0, 2.0, 3.0),
    target="y", target_mean=0.0, target_std=1.0,
)  # fmt: skip
ROWS = np.array([[-1.5, 0.5, -2.0], [1.25, -0.25, 3.0], [0.0, 4.0, 0.0]], dtype=np.float32)
SIZES = {1: ("height", 4, 16), 2: ("width", 6, 12)}
IMAGES, ROW_DOMAIN = domain_of(COLOUR, np.zeros((0, 3, 6, 8), np.float32)), domain_of(TABLE, ROWS)
DOMAINS = pytest.mark.parametrize("domain", [IMAGES, ROW_DOMAIN], ids=["image", "table"])


def inside(rows: Array, domain: Domain) -> bool:
    """Whether rows are in the domain, but for float32's own rounding."""
    slack = 1e-6 * np.abs(domain.high - domain.low)
    return bool(((rows >= domain.low - slack) & (rows <= domain.high + slack)).all())


def row_of(group: Group, name: str) -> Array:
    row: Array = group.rows[group.names.index(name)]
    return row


def test_pixels_go_from_black_to_white_as_the_handler_has_them() -> None:
    for colour, end in ((0, IMAGES.low), (255, IMAGES.high)):
        flat = Image.new("RGB", (8, 6), (colour, colour, colour))
        expected = image_array(flat, COLOUR)
        assert np.allclose(np.broadcast_to(end, (3, 6, 8)), expected, rtol=0, atol=1e-6)
    assert IMAGES.shape == (3, 6, 8)
    assert (IMAGES.low.dtype, IMAGES.high.dtype) == (np.float32, np.float32)
    assert IMAGES.dynamic == {}


def test_columns_go_as_far_as_the_data() -> None:
    assert ROW_DOMAIN.shape == (3,)
    assert ROW_DOMAIN.low.tolist() == [-1.5, -0.25, -2.0]
    assert ROW_DOMAIN.high.tolist() == [1.25, 4.0, 3.0]


@DOMAINS
def test_edges_are_in_the_domain_and_each_has_its_name(domain: Domain) -> None:
    group = boundary(domain)
    assert group.kind == "boundary"
    assert group.rows.dtype == np.float32
    assert group.rows.shape == (len(group.names), *domain.shape)
    assert len(set(group.names)) == len(group.names)
    # Zeros and ones are what a client without a clue sends, whatever the range is.
    plain = np.array([name in ("zeros", "ones") for name in group.names])
    assert inside(group.rows[~plain], domain)


@DOMAINS
def test_edges_are_constants_extremes_and_alternation(domain: Domain) -> None:
    group = boundary(domain)
    low, high = (np.broadcast_to(end, domain.shape) for end in (domain.low, domain.high))
    assert not row_of(group, "zeros").any()
    assert (row_of(group, "ones") == 1).all()
    assert (row_of(group, "all lowest") == low).all()
    assert (row_of(group, "all highest") == high).all()
    assert np.allclose(row_of(group, "all in the middle"), (low + high) / 2)
    first, second = (row_of(group, f"alternating, {end} first") for end in ("low", "high"))
    assert first.flat[0] == low.flat[0]
    assert second.flat[0] == high.flat[0]
    # Neighbours along every axis are at opposite ends.
    for row in (first, second):
        at_high = row == high
        assert all((np.diff(at_high.astype(int), axis=axis) != 0).all() for axis in range(row.ndim))
    assert np.allclose(first + second, low + high)


def hot_places(group: Group, domain: Domain) -> list[int]:
    """Return where rows are hot, after a look at every single hot and cold row."""
    places = []
    for name, row in zip(group.names, group.rows, strict=True):
        if not name.startswith("single "):
            continue
        end, other = (domain.high, domain.low) if " hot " in name else (domain.low, domain.high)
        place = int(name.split()[-1])
        different = np.flatnonzero(row != np.broadcast_to(other, domain.shape))
        assert different.tolist() == [place]
        assert row.flat[place] == np.broadcast_to(end, domain.shape).flat[place]
        if " hot " in name:
            places.append(place)
    return places


def test_single_elements_are_hot_and_cold_from_the_first_to_the_last() -> None:
    places = hot_places(boundary(IMAGES), IMAGES)
    assert places[0] == 0
    assert places[-1] == 3 * 6 * 8 - 1
    assert len(places) >= 3
    assert hot_places(boundary(ROW_DOMAIN), ROW_DOMAIN) == [0, 1, 2]


def test_each_channel_and_each_column_alone_is_at_its_highest() -> None:
    images, table = boundary(IMAGES), boundary(ROW_DOMAIN)
    for channel in range(3):
        row = row_of(images, f"channel {channel} highest")
        assert (row[channel] == IMAGES.high[channel]).all()
        others = [c for c in range(3) if c != channel]
        assert (row[others] == IMAGES.low[others]).all()
    for place in range(3):
        row = row_of(table, f"column {place} highest")
        assert row[place] == ROW_DOMAIN.high[place]
        others = [p for p in range(3) if p != place]
        assert np.allclose(row[others], row_of(table, "all in the middle")[others])


def test_a_sample_of_one_element_has_edges_too() -> None:
    one = Domain(shape=(1,), low=np.float32([-1]), high=np.float32([2]))
    group = boundary(one)
    assert len(set(group.names)) == len(group.names) == len(group.rows)
    assert {-1.0, 0.0, 0.5, 1.0, 2.0} == set(group.rows[:, 0].tolist())


@DOMAINS
def test_drawn_rows_are_in_the_domain_and_fill_it(domain: Domain) -> None:
    group = drawn(domain, 64, 0)
    assert group.rows.shape == (64, *domain.shape)
    assert (group.kind, group.rows.dtype, len(group.names)) == ("random", np.float32, 64)
    assert inside(group.rows, domain)
    span = np.broadcast_to(domain.high - domain.low, domain.shape)
    assert (np.ptp(group.rows, axis=0) > 0.5 * span).all()


@DOMAINS
def test_draws_are_the_seeds(domain: Domain) -> None:
    one, same, other = (drawn(domain, 9, seed) for seed in (3, 3, 4))
    assert (one.rows == same.rows).all()
    assert (one.rows != other.rows).any(axis=tuple(range(1, one.rows.ndim))).all()
    # More of them are those, and more.
    assert (drawn(domain, 12, 3).rows[:9] == one.rows).all()


def test_drawn_images_differ_to_a_network_that_averages() -> None:
    """Noise by the pixel does not: there every image has the same mean."""
    big = domain_of(
        ImageSpec(channels=3, height=32, width=32, fit="stretch", interpolation="bilinear",
                  mean=(0.0,) * 3, std=(1.0,) * 3),
        np.zeros((0, 3, 32, 32), np.float32),
    )  # fmt: skip
    means = drawn(big, 64, 0).rows.mean(axis=(2, 3))
    noise = np.random.default_rng(0).uniform(size=(64, 3, 32, 32)).mean(axis=(2, 3))
    assert (means.std(axis=0) > 10 * noise.std(axis=0)).all()


def test_every_fourth_row_is_a_blend_of_two_real_ones() -> None:
    group = drawn(ROW_DOMAIN, 16, 0, ROWS)
    blends = [n for n, name in enumerate(group.names) if name.startswith("blend of held-out")]
    assert blends == [3, 7, 11, 15]
    for place in blends:
        one, other = (int(word) for word in group.names[place].split()[-3::2])
        assert one != other
        ends = np.sort(ROWS[[one, other]], axis=0)
        assert ((group.rows[place] >= ends[0] - 1e-6) & (group.rows[place] <= ends[1] + 1e-6)).all()
        # The same share of each column.
        moved = ROWS[one] - ROWS[other]
        share = (group.rows[place] - ROWS[other]) / moved
        assert np.allclose(share, share[0], atol=1e-4)
    # One row alone cannot be blended.
    assert not any("blend" in name for name in drawn(ROW_DOMAIN, 8, 0, ROWS[:1]).names)


def test_other_sizes_are_the_ends_of_each_axis_and_some_between() -> None:
    domain = domain_of(COLOUR, np.zeros((0, 3, 6, 8), np.float32), SIZES)
    assert domain.dynamic == {1: (4, 16), 2: (6, 12)}
    groups = other_shapes(domain, 0)
    sizes = [group.rows.shape[2:] for group in groups]
    # One axis at an end and the other as ever; then both at theirs.
    assert {(4, 8), (16, 8), (6, 6), (6, 12), (4, 6), (16, 12)} <= set(sizes)
    assert len(set(sizes)) == len(sizes)
    assert (6, 8) not in sizes
    for group in groups:
        height, width = group.rows.shape[2:]
        assert 4 <= height <= 16
        assert 6 <= width <= 12
        assert (group.kind, group.rows.dtype, len(group.rows)) == ("shapes", np.float32, 3)
        assert group.names == (f"random of 3×{height}×{width}",) * 3
        assert inside(group.rows, domain)
    assert any(4 < height < 16 or 6 < width < 12 for height, width in set(sizes) - {(4, 6)})
    again = other_shapes(domain, 0)
    assert all((a.rows == b.rows).all() for a, b in zip(groups, again, strict=True))
    assert [g.rows.shape for g in other_shapes(domain, 1)] != [g.rows.shape for g in groups]


def test_a_domain_takes_its_shape_and_the_sizes_that_were_declared() -> None:
    domain = domain_of(COLOUR, np.zeros((0, 3, 6, 8), np.float32), SIZES)
    taken = ((3, 6, 8), (3, 4, 12), (3, 16, 6))
    assert [shape for shape in taken if not domain.takes(shape)] == []
    refused = ((3, 3, 8), (3, 6, 13), (1, 6, 8), (6, 8), (3, 6, 8, 1), ())
    assert [shape for shape in refused if domain.takes(shape)] == []
    assert [IMAGES.takes(shape) for shape in taken] == [True, False, False]


def test_nothing_varies_where_nothing_was_declared() -> None:
    assert other_shapes(IMAGES, 0) == []
    assert other_shapes(ROW_DOMAIN, 0) == []


def test_some_rows_of_a_group_keep_their_names() -> None:
    group = Group(kind="held-out", rows=ROWS, names=("x", "y", "z"))
    part = group.at(np.array([2, 0]))
    assert (part.kind, part.names) == ("held-out", ("z", "x"))
    assert torch.equal(torch.from_numpy(part.rows), torch.from_numpy(ROWS[[2, 0]]))

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tripose.train.order import Numbers, Order

orders = st.builds(Order, st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))


def stream(order, batches, rank=0, processes=1):
    return [[order.index(p) for p in order.positions(b, rank, processes)] for b in range(batches)]


@given(orders)
def test_every_sample_comes_once_in_every_round(order):
    seen = np.concatenate(stream(order, 3 * order.samples))
    rounds = seen[: len(seen) // order.samples * order.samples].reshape(-1, order.samples)
    assert (np.sort(rounds, 1) == np.arange(order.samples)).all()


def test_rounds_differ_and_so_do_seeds():
    first, second = stream(Order(100, 100, 0), 2)
    assert first != second
    assert stream(Order(100, 100, 1), 1)[0] != first


@given(orders, st.integers(0, 50))
def test_a_batch_does_not_depend_on_those_before(order, start):
    fresh = Order(order.samples, order.batch_size, order.seed)
    assert list(islice(Numbers(start), 3)) == [start, start + 1, start + 2]
    assert [fresh.index(p) for p in fresh.positions(start)] == stream(order, start + 1)[-1]


@given(orders, st.integers(1, 4))
def test_processes_share_a_batch(order, processes):
    together = [p for rank in range(processes) for p in order.positions(7, rank, processes)]
    assert sorted(together) == order.positions(7)


def test_samples_have_their_own_randomness():
    order = Order(10, 4, 3)
    assert order.sample_random(5).random() == Order(10, 2, 3).sample_random(5).random()
    assert len({order.sample_random(p).random() for p in range(100)} | {order.batch_random(1).random()}) == 101

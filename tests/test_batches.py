"""Batches: order, one ahead, and what goes wrong there."""

import itertools

import numpy as np
import pytest

from keras_lgmsnet.data.batches import Batches, side_by_side

pytestmark = pytest.mark.no_backend


class Positions(Batches):
    """Batches of the examples' positions and the epoch; keeps what was made."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.made: list[tuple[int, list[int]]] = []

    def _make(self, epoch, positions):
        self.made.append((epoch, positions.tolist()))
        if epoch == 13 and 2 in positions:
            raise ValueError("no such example in this epoch")
        return positions, np.full(len(positions), epoch)


def epoch_of(batches: Batches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    served = [batches[index] for index in range(len(batches))]
    assert all(np.all(epochs == epoch) for _, epochs in served)
    return [positions.tolist() for positions, _ in served]


def test_examples_are_served_in_order() -> None:
    batches = Positions(5, 2, shuffle=False, seed=0)
    assert epoch_of(batches, 0) == epoch_of(batches, 1) == [[0, 1], [2, 3], [4]]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    batches = Positions(40, 40, shuffle=True, seed=3)
    (first,), (second,) = epoch_of(batches, 0), epoch_of(batches, 1)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    smaller = epoch_of(Positions(40, 7, shuffle=True, seed=3), 0)
    assert list(itertools.chain(*smaller)) == first
    assert epoch_of(Positions(40, 40, shuffle=True, seed=4), 0) != [first]


def test_each_batch_is_made_once() -> None:
    batches = Positions(6, 2, shuffle=True, seed=0)
    served = [(epoch, part) for epoch in range(3) for part in epoch_of(batches, epoch)]
    assert batches.made == served


def test_what_was_made_ahead_is_not_served_in_another_epoch() -> None:
    batches = Positions(4, 2, shuffle=False, seed=0)
    batches[0]  # the second batch is made for epoch 0
    batches.set_epoch(1)
    np.testing.assert_array_equal(batches[1][1], [1, 1])


def test_what_fails_ahead_is_raised_when_it_is_served() -> None:
    batches = Positions(4, 2, shuffle=False, seed=0)
    batches.set_epoch(13)
    batches[0]
    with pytest.raises(ValueError, match="no such example"):
        batches[1]


def test_work_side_by_side_is_done_in_full() -> None:
    done = np.zeros(50)

    def work(item: int) -> None:
        done[item] += 1

    side_by_side(work, range(50))
    np.testing.assert_array_equal(done, 1)
    with pytest.raises(IndexError):
        side_by_side(work, [1, 50])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1), "none"), ((3, 0), "batch_size=0"), ((3, 1, -1), "seed=-1")],
)
def test_arguments_out_of_range_are_refused(arguments, message) -> None:
    num_examples, batch_size, *seed = arguments
    with pytest.raises(ValueError, match=f"Received: {message}"):
        Positions(num_examples, batch_size, shuffle=False, seed=seed[0] if seed else 0)

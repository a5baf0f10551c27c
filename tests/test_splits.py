import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lgmsnet.data.splits import train_validation_split

pytestmark = pytest.mark.no_backend

BUSI = [f"benign ({n})" for n in range(1, 438)] + [f"malignant ({n})" for n in range(1, 211)]


def test_published_split_of_busi() -> None:
    train_ids, validation_ids = train_validation_split(BUSI, validation_fraction=0.3, seed=41)
    assert train_ids[:3] == ["malignant (84)", "malignant (137)", "malignant (63)"]
    assert (len(train_ids), len(validation_ids)) == (452, 195)


@pytest.mark.parametrize(("count", "sizes"), [(2594, (1815, 779)), (3644, (2550, 1094))])
def test_published_sizes(count: int, sizes: tuple[int, int]) -> None:
    train_ids, validation_ids = train_validation_split(map(str, range(count)))
    assert (len(train_ids), len(validation_ids)) == sizes


def test_seeds_give_different_splits() -> None:
    splits = [set(train_validation_split(BUSI, seed=seed)[1]) for seed in (41, 64, 1337)]
    assert splits[0] != splits[1] != splits[2] != splits[0]


@settings(deadline=None, max_examples=50)
@given(
    ids=st.lists(st.text(max_size=4), min_size=2, max_size=30, unique=True),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_every_id_is_on_one_side_whatever_their_order(ids, fraction, seed, data) -> None:
    train_ids, validation_ids = train_validation_split(ids, fraction, seed)
    assert sorted(train_ids + validation_ids) == sorted(ids)
    assert train_ids
    assert validation_ids
    shuffled = data.draw(st.permutations(ids))
    assert train_validation_split(shuffled, fraction, seed) == (train_ids, validation_ids)


def test_repeated_id_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unique.*'b'"):
        train_validation_split(["a", "b", "c", "b"])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"validation_fraction={fraction}"):
        train_validation_split(BUSI, fraction)


@pytest.mark.parametrize(("ids", "fraction"), [([], 0.3), (["a"], 0.3), (["a", "b"], 0.6)])
def test_too_few_ids_are_refused(ids: list[str], fraction: float) -> None:
    with pytest.raises(ValueError, match=f"Received: {len(ids)} ids"):
        train_validation_split(ids, fraction)

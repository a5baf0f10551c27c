import pytest
from hypothesis import given, settings, strategies as st

from keras_lgmsnet.data.splits import require_separate_groups, split_ids

pytestmark = pytest.mark.no_backend

BUSI = [f"benign ({n})" for n in range(1, 438)] + [f"malignant ({n})" for n in range(1, 211)]


def sizes(splits: dict[str, list[str]]) -> dict[str, int]:
    return {part: len(ids) for part, ids in splits.items()}


def test_published_split_of_busi() -> None:
    splits = split_ids(BUSI, validation_fraction=0.3, seed=41)
    assert splits["train"][:3] == ["malignant (84)", "malignant (137)", "malignant (63)"]
    assert sizes(splits) == {"train": 452, "validation": 195}


@pytest.mark.parametrize(("count", "train", "validation"), [(2594, 1815, 779), (3644, 2550, 1094)])
def test_published_sizes(count: int, train: int, validation: int) -> None:
    assert sizes(split_ids(map(str, range(count)))) == {"train": train, "validation": validation}


def test_published_sizes_of_kvasir() -> None:
    ids = map(str, range(1000))
    splits = split_ids(ids, test_fraction=0.1, validation_fraction=0.111, seed=58800)
    assert sizes(splits) == {"train": 800, "validation": 100, "test": 100}


def test_seeds_give_different_splits() -> None:
    splits = [set(split_ids(BUSI, seed=seed)["validation"]) for seed in (41, 64, 1337)]
    assert splits[0] != splits[1] != splits[2] != splits[0]


def test_every_id_is_in_one_fold() -> None:
    folds = [split_ids(BUSI, num_folds=5, fold=fold) for fold in range(5)]
    validated = [id_ for splits in folds for id_ in splits["validation"]]
    assert sorted(validated) == sorted(BUSI)
    assert {len(splits["validation"]) for splits in folds} == {129, 130}
    for splits in folds:
        assert sorted(splits["train"] + splits["validation"]) == sorted(BUSI)


ids = st.lists(st.text(max_size=4), min_size=4, max_size=30, unique=True)
rules = st.fixed_dictionaries(
    {
        "validation_fraction": st.floats(0.01, 0.5),
        "test_fraction": st.sampled_from([0, 0.1, 0.3]),
        "seed": st.integers(0, 2**32 - 1),
        "num_folds": st.sampled_from([None, 2]),
    }
)


@settings(deadline=None, max_examples=50)
@given(ids, rules, st.data())
def test_every_id_is_in_one_part_whatever_their_order(ids, rule, data) -> None:
    splits = split_ids(ids, **rule)
    assert sorted(id_ for part in splits.values() for id_ in part) == sorted(ids)
    assert all(splits.values())
    assert ("test" in splits) == (rule["test_fraction"] > 0)
    assert split_ids(data.draw(st.permutations(ids)), **rule) == splits
    # Every id a group of its own is no grouping at all.
    assert split_ids(ids, groups={id_: id_ for id_ in ids}, **rule) == splits


@settings(deadline=None, max_examples=50)
@given(rules, st.lists(st.integers(1, 3), min_size=4, max_size=12))
def test_groups_stay_together(rule, group_sizes) -> None:
    groups = {
        f"{group}-{member}": f"patient {group}"
        for group, size in enumerate(group_sizes)
        for member in range(size)
    }
    splits = split_ids(groups, groups=groups, **rule)
    assert sorted(id_ for part in splits.values() for id_ in part) == sorted(groups)
    require_separate_groups(splits, groups)


def test_a_group_in_two_parts_is_refused() -> None:
    splits = {"train": ["a", "b"], "validation": ["c"]}
    require_separate_groups(splits, {"a": "x", "b": "x", "c": "y"})
    with pytest.raises(ValueError, match=r"patient.*Received: 'x' in training and validation"):
        require_separate_groups(splits, {"a": "x", "b": "y", "c": "x"})


def test_named_ids_are_validated_on_with_their_groups() -> None:
    groups = {"a": "x", "b": "x", "c": "y", "d": "z", "e": "w"}
    splits = split_ids(groups, validation_ids=["b"], groups=groups)
    assert splits == {"train": ["e", "c", "d"], "validation": ["a", "b"]}
    splits = split_ids(groups, validation_ids=["b"], test_fraction=0.3, groups=groups)
    assert (len(splits["train"]), len(splits["test"])) == (2, 1)
    assert splits["validation"] == ["a", "b"]


def test_named_ids_must_be_there_and_leave_some_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"the dataset's, a, b, …. Received: 'd'"):
        split_ids(["a", "b"], validation_ids=["a", "d"])
    with pytest.raises(ValueError, match=r"left to train on. Received: 2 ids, 2 to validate on"):
        split_ids(["a", "b"], validation_ids=["a", "b"])


def test_repeated_id_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unique.*'b'"):
        split_ids(["a", "b", "c", "b"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        *(
            ({"validation_fraction": fraction}, f"validation_fraction={fraction}")
            for fraction in (0, 1, -0.1, 1.5, float("nan"))
        ),
        ({"test_fraction": 1}, "test_fraction=1"),
        ({"num_folds": 1}, "num_folds=1"),
        ({"num_folds": 648}, "647. Received: num_folds=648"),
        ({"num_folds": 5, "fold": 5}, "fold=5, num_folds=5"),
    ],
)
def test_rules_out_of_range_are_refused(rule: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_ids(BUSI, **rule)


@pytest.mark.parametrize(("ids", "fraction"), [([], 0.3), (["a"], 0.3), (["a", "b"], 0.6)])
def test_too_few_ids_are_refused(ids: list[str], fraction: float) -> None:
    with pytest.raises(ValueError, match=f"Received: {len(ids)}, validation_fraction"):
        split_ids(ids, validation_fraction=fraction)

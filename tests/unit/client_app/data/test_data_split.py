"""Properties of the division into train, audit and test."""

import random
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from client_app.data.split import hash_to_unit, split_by_column, split_by_patient
from fedfm.config.site import Split
from fedfm.errors import ConfigError, DataError
from fedfm.examples import Example, Splits

patients = st.lists(st.text(max_size=6), min_size=1, max_size=40)
SHARES = Split(train=0.6, audit=0.15, test=0.25)


def examples_of(names: list[str]) -> list[Example]:
    return [Example(name, 0, text="", row=row) for row, name in enumerate(names)]


def membership(splits: Splits) -> dict[str, set[str]]:
    parts = {"train": splits.train, "audit": splits.audit, "test": splits.test}
    return {part: {example.patient for example in chosen} for part, chosen in parts.items()}


def split_or_skip(names: list[str], shares: Split = SHARES) -> Splits:
    assume(any(hash_to_unit(name, "s") < shares.train for name in names))
    return split_by_patient(examples_of(names), shares, "s")


@given(patients)
def test_sets_share_no_patient_and_lose_no_example(names: list[str]) -> None:
    splits = split_or_skip(names)
    parts = membership(splits)
    assert all(not one & other for one, other in combinations(parts.values(), 2))
    rows = [example.row for part in (splits.train, splits.audit, splits.test) for example in part]
    assert sorted(rows) == list(range(len(names)))


@given(patients, st.randoms(use_true_random=False))
def test_order_of_rows_moves_nobody(names: list[str], chance: random.Random) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)
    assert membership(split_or_skip(names)) == membership(split_or_skip(shuffled))


@given(patients, patients)
def test_new_patients_move_nobody(names: list[str], more: list[str]) -> None:
    before, after = membership(split_or_skip(names)), membership(split_or_skip(names + more))
    assert all(before[part] <= after[part] for part in before)


@given(st.text(), st.text())
def test_the_hash_is_a_number_from_0_to_1(patient: str, salt: str) -> None:
    assume(not any("\ud800" <= letter <= "\udfff" for letter in patient + salt))
    assert 0 <= hash_to_unit(patient, salt) < 1


def test_shares_are_met_within_four_standard_errors() -> None:
    names = [f"patient {number}" for number in range(20_000)]
    parts = membership(split_by_patient(examples_of(names), SHARES, "s"))
    for part, share in (("train", 0.6), ("audit", 0.15), ("test", 0.25)):
        error = (share * (1 - share) / len(names)) ** 0.5
        assert abs(len(parts[part]) / len(names) - share) < 4 * error


def test_another_salt_divides_independently() -> None:
    names = [f"patient {number}" for number in range(20_000)]
    half = Split(train=0.5, audit=0, test=0.5)
    one, other = (membership(split_by_patient(examples_of(names), half, salt))["train"] for salt in ("a", "b"))
    assert abs(len(one & other) / len(names) - 0.25) < 4 * (0.25 * 0.75 / len(names)) ** 0.5


def test_the_division_is_the_same_for_ever() -> None:
    """Patients who once were tested must never train: a changed hash would break every ledger."""
    # printf '10:hospital-a:patient 1' | sha256sum | cut -c1-12, divided by 16^12
    assert hash_to_unit("patient 1", "hospital-a") == 0xE8B7A52361D7 / 16**12


def test_shares_must_add_up() -> None:
    with pytest.raises(ConfigError, match=r"SITE-E027.*0\.9"):
        split_by_patient(examples_of(["a"]), Split(train=0.6, audit=0.1, test=0.2), "s")


def test_somebody_must_train() -> None:
    with pytest.raises(DataError, match="SITE-E021"):
        split_by_column(examples_of(["a"]), ["test"])

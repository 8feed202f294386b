"""A setting is put in the place of the line of its name; what a person wrote stays."""

from fedfm.env_file import with_lines


def test_a_line_is_replaced_and_a_new_one_is_appended() -> None:
    text = "# mine\nA=1\nOTHER_A=2\nB=\\1"
    assert with_lines(text, {"A": "\\g<0>", "C": "x:y"}) == "# mine\nA=\\g<0>\nOTHER_A=2\nB=\\1\nC=x:y\n"


def test_doing_it_again_changes_nothing() -> None:
    once = with_lines("A=1\n", {"A": "2", "B": "3"})
    assert with_lines(once, {"A": "2", "B": "3"}) == once

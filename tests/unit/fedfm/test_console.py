"""What is said is printed as it is."""

import pytest

from fedfm.console import say


def test_no_word_becomes_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich makes pictures of ``:cd:``; a fingerprint may hold that."""
    for text in ("14:CD:24:29", "[bold]not bold[/bold]", "x" * 300):
        say(text)
        assert capsys.readouterr().out == f"{text}\n"

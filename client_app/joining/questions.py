"""How a person is asked, and how a script answers: every question is also an option of the command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import typer

from fedfm.errors import ConfigError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Question:
    """One thing that only the hospital knows.

    Attributes:
        option: The option that answers it, for example ``"--id"``.
        text: What the person is asked.
        proposed: The answer that is proposed; None where there is none.
    """

    option: str
    text: str
    proposed: str | None = None


@dataclass(frozen=True)
class Asking:
    """How questions are answered that no option answers.

    Attributes:
        person: A person sits at the terminal.
        accept: What is proposed is taken without asking (``--yes``).
    """

    person: bool
    accept: bool

    def ask(self, question: Question, given: str | None, read: Callable[[str], Answer]) -> Answer:
        """Return the answer to a question: of its option, of what is proposed, or of the person.

        Args:
            question: What is asked.
            given: The option, where it was given.
            read: Turns the text into the answer, or raises a ``ConfigError``; a person is then asked again.

        Raises:
            ConfigError: The option cannot be used (SITE-E231), or nobody is there to answer (SITE-E230).
        """
        if given is not None:
            return read(given)
        if self.accept and question.proposed is not None:
            return read(question.proposed)
        if not self.person:
            proposed = f", or --yes for what is proposed: {question.proposed}" if question.proposed else ""
            raise ConfigError(
                "SITE-E230",
                f"no person is at a terminal to answer: {question.text}",
                where=question.option,
                fix=f"give the option {question.option}{proposed}",
            )
        while True:
            try:
                return read(typer.prompt(question.text, default=question.proposed))
            except ConfigError as problem:
                typer.echo(str(problem).replace(" — ", "\n  "), err=True)

    def confirm(self, text: str) -> bool:
        """Return whether the person agrees; without one, options and ``--yes`` have said all."""
        return self.accept or not self.person or typer.confirm(text, default=True)


def unusable(option: str, what: str, *, found: str = "", allowed: str = "", fix: str = "") -> ConfigError:
    """Return the error of an answer that cannot be used. ``found`` is never a patient's value."""
    return ConfigError("SITE-E231", what, where=option, found=found, allowed=allowed, fix=fix or "answer it again")

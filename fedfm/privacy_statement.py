"""What a differential privacy claim must say, in the order of NIST SP 800-226 (March 2025), from facts to text.

The same words at both ends: a hospital states its own ledger, a coordinator what its run's events
hold. Pure: no figure is computed from data, and none appears that is not among the facts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from fedfm import privacy
from fedfm.gaussian import best_guess
from fedfm.privacy import Release, mu_of
from fedfm.statement_texts import HEADINGS, NEIGHBOURS, NOT_COVERED, PURPOSES, RANDOMNESS, TRUST, UNITS, paragraphs

_DELTAS = (1e-4, 1e-5, 1e-6)
NO_GUARANTEE = "NO PRIVACY GUARANTEE"


@dataclass(frozen=True)
class Bound:
    """What one person can have lost.

    Attributes:
        whose: For example ``hospital-a, training patients``.
        delta: Chance of failure.
        epsilon: At that delta; inf where a release had no noise.
        history: All releases behind it, where they are known; empty where only ``epsilon`` is.
    """

    whose: str
    delta: float
    epsilon: float
    history: tuple[Release, ...] = ()


@dataclass(frozen=True)
class Mechanism:
    """One kind of release.

    Attributes:
        purpose: As in the ledger, a key of ``PURPOSES``.
        release: Its noise; ``noise_multiplier`` 0 for none.
        times: How often.
    """

    purpose: str
    release: Release
    times: int


@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One heading of the statement."""

    heading: str
    paragraphs: tuple[str, ...]
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that a statement is made from.

    Attributes:
        title: Of the document.
        source: Where every figure comes from, one sentence.
        units: Units of privacy, ``patient``, ``record`` or ``none``.
        bounds: What one person can have lost by what has happened.
        planned: The same for what is planned, where something is.
        mechanisms: Every kind of release.
        releases_of: What ``mechanisms`` lists, for its caption.
        composition: What is composed, one sentence each.
        history: Its tables.
        exposure: Where the raw data are, one sentence each.
        warnings: What this side alone can warn of.
    """

    title: str
    source: str
    units: tuple[str, ...]
    bounds: tuple[Bound, ...]
    planned: tuple[Bound, ...]
    mechanisms: tuple[Mechanism, ...]
    releases_of: str
    composition: tuple[str, ...]
    history: tuple[Table, ...]
    exposure: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statement:
    """The whole statement; ``warnings`` lead it."""

    title: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def statement(facts: Facts) -> Statement:
    """Return the statement: every heading, in order, whatever the facts."""
    contents: tuple[tuple[tuple[str, ...], tuple[Table, ...]], ...] = (
        _plain_words(facts),
        _numbers(facts),
        (tuple(UNITS[unit] for unit in facts.units) or ("Nothing was released, so no unit was ever at stake.",), ()),
        (NEIGHBOURS, ()),
        (TRUST, ()),
        _mechanisms(facts),
        (_accountant(), ()),
        (NOT_COVERED, ()),
        (RANDOMNESS, ()),
        (facts.composition, facts.history),
        (facts.exposure, ()),
    )
    sections = tuple(Section(heading, *content) for heading, content in zip(HEADINGS, contents, strict=True))
    return Statement(facts.title, _warnings(facts), sections)


def guess(epsilon: float, delta: float) -> float:
    """Return how often the best guess is right that a coin decides, under (epsilon, delta); in [0.5, 1].

    ``(e^epsilon + delta) / (1 + e^epsilon)``; ``1 / (1 + e^-epsilon)`` at delta 0 (Kairouz, Oh, Viswanath 2015).
    """
    share = 1 / (1 + math.exp(-epsilon))
    return min(share + delta * (1 - share), 1.0)


def _warnings(facts: Facts) -> tuple[str, ...]:
    lost = [bound.whose for bound in (*facts.bounds, *facts.planned) if math.isinf(bound.epsilon)]
    found = []
    if lost:
        found.append(
            f"{NO_GUARANTEE} for {'; '.join(dict.fromkeys(lost))}: epsilon is infinite. "
            "Something computed from these people left, or is to leave, without noise."
        )
    if "record" in facts.units:
        found.append(
            "The unit of privacy is, or may be, one RECORD: a patient with several notes is protected less than "
            "epsilon says, and the more notes, the less."
        )
    return (*found, *facts.warnings)


def _plain_words(facts: Facts) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    words = paragraphs(
        """
        The question that a figure of privacy answers: somebody has everything that ever left the hospital, knows
        everything about one person but one thing, and guesses that one thing, whether the person's data took part.
        Without what left, a guess is right half the time. The table says how often, at most, it can be right with it.

        “By epsilon” holds for any mechanism with that epsilon. “By this noise” is exact for the Gaussian noise that
        was used on all patients at once, and can be said only where the whole history is known. Nothing better is
        possible, however much computing and side knowledge goes into the guess; delta is the chance that is left out.
        """
    )
    head = ("Whose data took part?", "By epsilon, right at most", "By this noise, right at most")
    rows = tuple(
        (bound.whose, _percent(guess(bound.epsilon, bound.delta)), _exactly(bound))
        for bound in (*facts.bounds, *facts.planned)
    )
    return words, (Table("A guess that would be right 50.0 % of the time by chance.", head, rows),)


def _exactly(bound: Bound) -> str:
    mu = mu_of(bound.history) if bound.history or bound.epsilon == 0 else None
    return "not known here" if mu is None else _percent(best_guess(mu))


def _percent(share: float) -> str:
    return f"{math.ceil(share * 1000) / 10:.1f} %"  # rounded up: a bound must not promise more than it holds


def _numbers(facts: Facts) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    stated = Table(
        "Epsilon and delta as they are stated and capped.",
        ("Whose data", "epsilon", "delta"),
        tuple(
            (bound.whose, epsilon_text(bound.epsilon), f"{bound.delta:.2g}")
            for bound in (*facts.bounds, *facts.planned)
        ),
    )
    known = [bound for bound in (*facts.bounds, *facts.planned) if bound.history]
    words = (
        facts.source,
        *paragraphs(
            """
            Epsilon without delta says nothing, and one history has an epsilon at every delta: the smaller the delta,
            the larger the epsilon. Delta must stay far below one in the number of patients.
            """
        ),
    )
    if not known:
        return words, (stated,)
    rows = tuple((b.whose, *(epsilon_text(_epsilon_at(b, delta)) for delta in _DELTAS)) for b in known)
    head = ("Whose data", *(f"epsilon at delta {delta:g}" for delta in _DELTAS))
    return words, (stated, Table("The same histories at other deltas.", head, rows))


def _epsilon_at(bound: Bound, delta: float) -> float:
    if math.isinf(bound.epsilon):
        return math.inf
    return privacy.epsilon(bound.history, delta)


def epsilon_text(value: float) -> str:
    """Return an epsilon for a table; infinity is shouted."""
    return f"∞ {NO_GUARANTEE}" if math.isinf(value) else f"{value:.3f}"


def _mechanisms(facts: Facts) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    words = paragraphs(
        """
        Every figure that leaves is a sum in which one unit counts for no more than its sensitivity, plus Gaussian
        noise of sigma times that sensitivity (DP-SGD of Abadi et al. 2016 for the updates). A release whose steps are
        taken at once has the noise of their mean: sigma divided by the square root of the steps.
        """
    )
    head = ("Release", "About", "Sensitivity (L2) of one unit", "sigma", "Sampling rate q", "Steps each", "Times")
    rows = tuple(_mechanism(one) for one in facts.mechanisms)
    return words, (Table(facts.releases_of, head, rows or (("none", *("—",) * 6),)),)


def _mechanism(one: Mechanism) -> tuple[str, ...]:
    what, whose, sensitivity = PURPOSES.get(one.purpose, (one.purpose, "—", "not described in this release of fedfm"))
    noise = f"{one.release.noise_multiplier:.4g}" if one.release.noise_multiplier > 0 else f"0 {NO_GUARANTEE}"
    return what, whose, sensitivity, noise, f"{one.release.sample_rate:g}", str(one.release.steps), str(one.times)


def _accountant() -> tuple[str, ...]:
    return paragraphs(
        f"""
        PRVAccountant of Opacus {version("opacus")} (Gopi, Lee, Wutschitz 2021): numerical composition of
        Poisson-subsampled Gaussian mechanisms. The upper end of its interval is stated, which lies at most about 0.02
        above the true epsilon (eps_error 0.01, delta_error delta / 1000), never knowingly below.

        Where every patient is in every step (q = 1) nothing is assumed about sampling; the closed form of Balle and
        Wang (2018) gives the same figures to within that error.
        """
    )


def markdown(made: Statement) -> str:
    """Return the statement as Markdown; warnings lead it."""
    parts = [f"# {_escaped(made.title)}"]
    parts += [f"> **{_escaped(text)}**" for text in made.warnings]
    for section in made.sections:
        parts.append(f"## {section.heading}")
        parts += [_escaped(text) for text in section.paragraphs]
        parts += [_markdown_table(table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows)]
    return f"{_escaped(table.caption)}\n\n" + "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Names of runs and studies come from a coordinator: they may neither end a cell nor mark up."""
    for letter in "\\|<>[]`*":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())

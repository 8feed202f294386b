"""Events of explanations: what is known of the reasons of the models of a round. Nothing sample-level is among them."""

from dataclasses import dataclass, field

from fedfm.metrics.performance import Estimate


@dataclass(frozen=True)
class ModelExplained:
    """Mean figures of the global model over the audit documents of all sites (``fedfm.explanations.RANGES``)."""

    round: int
    documents: float
    means: dict[str, Estimate]


@dataclass(frozen=True)
class SiteExplained:
    """The same over the audit documents of one site."""

    site: str
    round: int
    documents: float
    means: dict[str, Estimate]


@dataclass(frozen=True)
class SiteChecked:
    """What a site's check says of its own model before it was sent: mean figures over its audit documents.

    ``failed`` are the gates that these do not pass, noise included, as the coordinator judges them; none in the first
    rounds (``explainability.warm_up``). ``downweighted``: the update counts half for it.
    """

    site: str
    round: int
    documents: float
    means: dict[str, Estimate]
    failed: tuple[str, ...]
    downweighted: bool


@dataclass(frozen=True)
class Credit:
    """Mean credit of a term over the documents that are explained; ``documents``: how many hold it, about."""

    credit: Estimate
    documents: float


@dataclass(frozen=True)
class TermsCredited:
    """Credits of the public vocabulary in the global model over the audit documents of a site; ``""`` is all sites.

    Terms that too few documents hold, or whose credit drowns in the noise, are left out. ``source`` is ``audit``, or
    ``reference`` for public texts in their place. Intervals hold the noise of the former, and of the latter how
    credits vary over documents.
    """

    round: int
    site: str
    source: str
    terms: dict[str, Credit]


@dataclass(frozen=True)
class ReferenceExplained:
    """A model of this round on the public reference set: the global one (``site`` is ``""``), or one site's update.

    ``credits`` holds the mean credit of each term of the vocabulary that a document holds: of one document where no
    other does, so that ``TermsCredited`` is what tells which terms decide.
    """

    round: int
    site: str
    documents: int
    means: dict[str, Estimate]
    credits: dict[str, float]


@dataclass(frozen=True)
class Agreement:
    """How alike the credits of two sites are, each in [-1, 1] or [0, 1], 1 is alike; None: too few common terms."""

    one: str
    other: str
    rank_overlap: float | None
    rank_correlation: float | None
    top_overlap: float | None


@dataclass(frozen=True)
class SitesAgree:
    """Agreement between each two sites; ``source`` is ``reference`` (updates on public texts) or ``audit``.

    ``site_predictability``: AUROC of telling a site from the reasons of its model, 0.5 is chance; None: not measured.
    """

    round: int
    source: str
    pairs: tuple[Agreement, ...]
    site_predictability: Estimate | None = None


@dataclass(frozen=True)
class GateJudged:
    """One gate of the coordinator: ``passed`` None where it cannot be judged; ``subject`` is a site or ``""``.

    ``estimate`` is the figure that it is judged by, ``limit`` what it is held against; ``reason`` says so in words.
    """

    round: int
    gate: str
    subject: str
    passed: bool | None
    estimate: Estimate | None
    limit: float
    reason: str


@dataclass(frozen=True)
class ReasonsLost:
    """The round is marked: aggregation has lost reasons that earlier models had; ``gates`` say which."""

    round: int
    gates: tuple[str, ...]
    action: str
    reasons: tuple[str, ...] = field(default=())


Explained = (
    ModelExplained
    | SiteExplained
    | SiteChecked
    | TermsCredited
    | ReferenceExplained
    | SitesAgree
    | GateJudged
    | ReasonsLost
)

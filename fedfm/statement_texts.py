"""The words of a privacy statement that are the same for every run and every hospital."""


def paragraphs(text: str) -> tuple[str, ...]:
    """Return the paragraphs of a text, which blank lines divide, each on one line."""
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n"))


HEADINGS = (
    "In plain words",
    "Epsilon and delta",
    "Unit of privacy",
    "Neighbouring data sets",
    "Trust model",
    "Mechanism",
    "Accountant",
    "What is not covered",
    "Randomness and floating point",
    "Composition so far",
    "Data collection exposure",
)
"""What NIST SP 800-226 asks a claim to state, behind a first part for readers in a hurry."""

UNITS = {
    "patient": (
        "One patient, with all notes or rows of that patient together: a patient's notes are averaged before they are "
        "clipped, and further notes beyond the study's limit are left out. Patients are told apart by the column that "
        "the site file names; one person under two identifiers counts as two."
    ),
    "record": (
        "One record: a single note or row. What several records of one patient say together is not bounded by the "
        "stated epsilon; for k records it is far weaker. A site must accept this unit by name (policy.units)."
    ),
    "none": "None: the study trains without a mechanism of privacy, which each site must allow by name.",
}

NEIGHBOURS = paragraphs(
    """
    Two sets of patients are neighbours where one unit is added to or removed from one of them (add/remove, not
    replacement). The size of the cohort is public: the declared, rounded number in the site file, never counted.

    Training, audit and test patients are three sets that share no patient. What one set releases tells nothing of
    another, so that nobody loses more than the epsilon of the own set (parallel composition).
    """
)

TRUST = paragraphs(
    """
    Local to each hospital: noise is added inside the hospital, by the hospital's own trainer, before anything leaves.
    The coordinator, the other hospitals and whoever gets the final model see noised figures only, and need not be
    trusted for the guarantee. Raw data are seen by the trainer and by the hospital's own people alone.

    Trusted: the hospital's administrators, the trainer that they installed, the operating system under it and its
    source of entropy. The hospital's policy caps what a study may ask; beyond a cap the trainer refuses and spends
    nothing. No secure aggregation is claimed, and none is needed for the bound.
    """
)

NOT_COVERED = paragraphs(
    """
    Choosing: hyper-parameters and studies that were chosen by looking at results. Each run is charged; the choice
    between runs beyond that is not.

    Preparing: how the hospital selected, cleaned, labelled and mapped its data before the trainer read it.

    Refusals: that a site refuses, and with which code, is not noised. “Too few training patients” tells one bit.

    Timing and sizes: seconds of computing leave with each reply, and sizes of messages are not hidden.

    The declared number of patients, the device, the names of protected attributes and the ledger's length and seal:
    they are public, and hold nothing that was computed from a patient's values.

    People who are patients of two hospitals lose at both: each hospital's epsilon is of its own patients, and the two
    add up. Relatives, and facts that hold for a whole group whether or not one member takes part, are not hidden.

    What the hospital itself keeps or shows: the trainer's log, cached states, the local check of explanations, a
    personal model and what it is compared with, an audit of privacy on its own patients.
    """
)

RANDOMNESS = paragraphs(
    """
    Noise and samples come from ChaCha20, keyed anew for every draw by the operating system. There is no seed: no
    setting, environment variable or request can fix or repeat the noise.

    Noise is computed in floating point (Gaussian by Box and Muller in float64, added in float32). Attacks on the gaps
    between such numbers are known (Mironov 2012; Jin et al. 2022) and are not ruled out by proof; no discrete
    mechanism is used. The bound is that of the ideal Gaussian.
    """
)

_TRAINING, _TEST, _AUDIT = "training patients", "test patients", "audit patients"

_BY_ATTRIBUTES = "square root of the number of attributes and intersections"
_BY_FIGURES = "square root of the number of figures, each at most 1"
PURPOSES: dict[str, tuple[str, str, str]] = {
    "training": ("update of the trained parameters", _TRAINING, "clipping norm, in each step"),
    "statistics": ("sums of the inputs, for standardising", _TRAINING, "norm that each unit's vector is clipped to"),
    "reweighting": ("count of groups and labels; does not leave, its noised form shapes the update", _TRAINING, "1"),
    "alone": (
        "model trained without the other sites; does not leave, its answers are counted",
        _TRAINING,
        "clipping norm, in each step",
    ),
    "evaluation": ("count by label and score", _TEST, "1"),
    "last_evaluation": ("count by label and score, after the last round", _TEST, "1"),
    "groups": ("count by group, label and predicted class", _TEST, _BY_ATTRIBUTES),
    "last_groups": ("count by group, label and score, after the last round", _TEST, _BY_ATTRIBUTES),
    "alone_count": ("count by label and score of the model trained alone", _TEST, "1"),
    "loss": ("sum of clipped losses, and how many", _AUDIT, "√2: two numbers of at most 1"),
    "audit_groups": ("count by one attribute, label and predicted class", _AUDIT, "1"),
    "group_losses": ("sums of clipped losses by group, and how many; do not leave", _AUDIT, "√2: two numbers"),
    "explanation": ("sums of figures of the global model's reasons, and how many", _AUDIT, _BY_FIGURES),
    "terms": (
        "credits of a public vocabulary, and how many documents hold each term",
        _AUDIT,
        "1 for the credits and 4 for the documents, each with half of the joint squared sensitivity",
    ),
    "check": ("sums of figures of the reasons of the site's own model, and how many", _AUDIT, _BY_FIGURES),
}
"""Purpose of a charge, or name in ``fedfm.plan.Plan``: what is released, about whom, and what one unit can change."""

"""What a study asks about the reasons of its models."""

from dataclasses import dataclass

from fedfm.config.settings import setting

ATTRIBUTION_NAMES = (
    "integrated_gradients",
    "expected_gradients",
    "gradient_input",
    "gradient_norm",
    "occlusion",
    "leave_one_out",
    "attention_rollout",
    "none",
)


@dataclass
class Explainability:
    """What is asked about the reasons of the model, on audit patients."""

    attribution: str = setting(
        "integrated_gradients",
        "how words are credited; attention_rollout and gradient_norm for comparison only: they hardly depend on what "
        "the model was trained to decide",
        choices=ATTRIBUTION_NAMES,
    )
    steps: int = setting(
        10, "points on the path of integrated gradients, or draws of expected gradients", low=2, high=200
    )
    baseline: str = setting(
        "pad",
        "what a word is compared with on the path of integrated gradients: the embedding of padding, of the mask, or "
        "the mean of all words; a column always with the middle of its range, or its mean",
        choices=("pad", "mask", "mean"),
    )
    documents: int = setting(16, "audit documents looked at", unit="documents", low=2, high=1000)
    every: int = setting(0, "also after every so many rounds; 0: after the last round only", unit="rounds", low=0)
    check_every: int = setting(
        0,
        "a site checks its model in each round before it sends it; the figures of the check leave after the last "
        "training, and also after every so many rounds; 0: after the last only",
        unit="rounds",
        low=0,
    )
    shortcuts: dict[str, list[str]] = setting(
        {}, "name to the words, phrases or columns that must not decide, for example scanner: [portable film]; public"
    )
    swaps: dict[str, dict[str, str]] = setting(
        {},
        "name to phrases that are exchanged to see whether the answer changes, for example sex: {woman: man}; an "
        "empty one is taken out where it stands and put in where it does not; a column is mirrored in its range",
    )
    vocabulary: list[str] = setting([], "public terms whose credit is released, each of a word or more")
    reference: str = setting(
        "", "path of public examples at the coordinator, on which every round's models are explained; empty: none"
    )
    reference_documents: int = setting(32, "public examples looked at", unit="documents", low=2, high=10_000)
    vocabulary_documents: int = setting(
        128,
        "public examples over which the global model's credits of the vocabulary are averaged; a term is told of that "
        "11 of them hold",
        unit="documents",
        low=2,
        high=10_000,
    )
    warm_up: float = setting(0.2, "share of the rounds, the first ones, in which no gate speaks", low=0, high=1)
    action: str = setting(
        "report",
        "what follows when aggregation loses the reasons; report: the round is marked and not chosen as the final "
        "model while others are left; stop: the run ends as well, and fails",
        choices=("report", "stop"),
    )

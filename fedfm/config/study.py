"""What a study may say. The coordinator owns it; every site reads it and may refuse it.

Plain dataclasses, because OmegaConf cannot merge into frozen ones; nobody changes one after composition.
"""

from dataclasses import dataclass
from typing import Any

from fedfm.config import refused
from fedfm.config.explainability import Explainability
from fedfm.config.settings import REQUIRED, setting


@dataclass
class Column:
    """A numeric column and the public reference range that scales it."""

    name: str = setting(REQUIRED, "name of the column, the same at every site", pattern=r"[A-Za-z][A-Za-z0-9_.-]*")
    low: float = setting(REQUIRED, "reference value mapped to -1")
    high: float = setting(REQUIRED, "reference value mapped to +1; above low")


@dataclass
class Task:
    """What the model predicts, from what."""

    inputs: str = setting("text", "what the model reads", choices=("text", "columns"))
    labels: list[str] = setting([], "names of the classes, in order; two or more")
    positive: str = setting("", "the class whose probability is the score of a two-class task; empty: the last")
    columns: list[Column] = setting([], "numeric columns, for inputs = columns; in the order the model sees them")
    groups: list[str] = setting([], "protected attributes that fairness looks at; a site may lack some")
    intersections: list[str] = setting(
        [], "attributes crossed, joined by *, such as sex*age_band; counted wherever groups are"
    )
    mark_missing: bool = setting(
        True, "columns: the model also reads whether each value is missing; off: half the parameters, half the noise"
    )


@dataclass
class Model:
    """The distilled starting point."""

    backbone: str = setting("bert", "kind of backbone", choices=("bert", "tabular"))
    source: str = setting(
        "package",
        "where the weights come from; random is for tests, none for tabular models",
        choices=("package", "directory", "hub", "random", "none"),
    )
    location: str = setting("", "package and folder (name/folder), directory, or hub id")
    revision: str = setting("", "pinned commit of a hub id; required there")
    sha256: str = setting("", "hash of model.safetensors; required unless the source is random or none")
    max_tokens: int = setting(128, "notes are cut after this many tokens", unit="tokens", low=8, high=8192)
    hidden: list[int] = setting(
        [], "sizes of the hidden layers of a tabular model; empty: logistic regression", unit="units", low=1, high=4096
    )


@dataclass
class Adapter:
    """Which parameters are trained, and travel."""

    method: str = setting(
        "ffa_lora",
        "which parameters are trained",
        choices=("head", "lora", "ffa_lora", "dora", "ia3", "bitfit", "full"),
        refused=refused.ADAPTERS,
    )
    rank: int = setting(8, "rank of the low-rank update", low=1, high=256)
    alpha: float = setting(2.0, "scale of the low-rank update; the factor is alpha / rank", above=0)
    layers: int = setting(2, "adapt this many top layers; lower ones stay frozen and are cached; 0: all", low=0)
    modules: list[str] = setting(["query", "value"], "names of the linear layers that LoRA, DoRA and IA3 adapt")


@dataclass
class Training:
    """One round of local fine-tuning."""

    local_steps: int = setting(4, "optimiser steps per round", unit="steps", low=1, high=10_000)
    sample_rate: float = setting(1.0, "chance of each patient to be in a step; 1 is the full batch", low=0.001, high=1)
    optimizer: str = setting(
        "sgd",
        "how the noised gradient becomes a step; sgd: momentum; adam: each parameter at its own scale",
        choices=("sgd", "adam"),
        refused=refused.OPTIMIZERS,
    )
    learning_rate: float = setting(
        5.0, "step length; of sgd relative to the clipping norm where one is set; of adam at most 0.1", above=0
    )
    momentum: float = setting(0.9, "momentum of the local optimiser, fresh in each round", low=0, high=0.999)
    weight_decay: float = setting(0.0, "pull to zero, applied after the noise", low=0)
    proximal: float = setting(0.0, "pull to the received parameters (FedProx), applied after the noise", low=0)
    precision: str = setting(
        "float32",
        "of the passes through the model; bfloat16 is quicker where the processor has it, and changes numbers; "
        "clipping and noise stay as they are",
        choices=("float32", "bfloat16"),
    )


@dataclass
class Standardize:
    """What the model's inputs are centred and scaled by: columns, or the states that enter the head of a text model."""

    method: str = setting(
        "reference",
        "reference: the public ranges of task.columns; global: means and deviations pooled over sites before round 1, "
        "with noise, on the ledger; site: the same of one site alone, which it keeps; none: values as they are",
        choices=("reference", "global", "site", "none"),
    )
    share: float = setting(
        0.2, "part of privacy.epsilon that the statistics of global and site may spend", above=0, high=0.9
    )
    radius: float = setting(
        2.0, "norm that a note's state is cut to for the sums, near what most have; not for columns", above=0, high=10
    )


@dataclass
class Privacy:
    """The privacy that the study asks for. A site may only be stricter."""

    mechanism: str = setting(
        "gaussian", "gaussian: differential privacy; none: no guarantee, by name", choices=("gaussian", "none")
    )
    epsilon: float = setting(3.0, "budget of a training patient over all rounds", above=0, high=100)
    evaluation_epsilon: float = setting(3.0, "budget of a test patient over all evaluations", above=0, high=100)
    audit_epsilon: float = setting(3.0, "budget of an audit patient over all checks", above=0, high=100)
    delta: float | None = setting(None, "chance of failure; empty: 1 / (10 declared patients)", low=1e-12, high=0.1)
    unit: str = setting("patient", "whose presence is hidden", choices=("patient", "record"))
    max_grad_norm: float | None = setting(
        0.1, "clipping norm of one unit's gradient; empty only without a mechanism", low=1e-4, high=1e4
    )
    clipping: str = setting(
        "flat",
        "flat: max_grad_norm over all parameters; per_layer: an equal share of it for each trained layer",
        choices=("flat", "per_layer"),
    )
    max_examples_per_patient: int = setting(
        8, "further notes of a patient are left out, where the patient is the unit", unit="notes", low=1
    )


@dataclass
class Rule:
    """A rule of a registry and its parameters."""

    rule: str = setting(REQUIRED, "name in the registry; the files of the conf group list them")
    params: dict[str, Any] = setting({}, "keyword arguments of the rule")


@dataclass
class Evaluation:
    """What the sites count after each round, on test patients."""

    every: int = setting(1, "evaluate after every so many rounds, and after the last", unit="rounds", low=1)
    bins: int = setting(10, "score bins of a two-class task in the last evaluation; even", unit="bins", low=2, high=100)
    release: str = setting(
        "noisy",
        "noisy: counts with Gaussian noise; exact: no guarantee, a site must allow it",
        choices=("noisy", "exact"),
    )
    groups: bool = setting(True, "count by task.groups too, in the last evaluation; noised or exact as release says")
    groups_every: int = setting(
        0, "also after every so many rounds; 0: in the last evaluation only", unit="rounds", low=0
    )
    group_bins: int = setting(
        2,
        "score bins of a group in the last evaluation, for its AUROC and calibration; even; 2: the predicted class",
        unit="bins",
        low=2,
        high=100,
    )
    exchange: str = setting(
        "own",
        "own: asked for as soon as a round's model is made; with_training: together with the next round of training, "
        "so that a round costs one exchange instead of two",
        choices=("own", "with_training"),
    )
    audit_loss: bool = setting(
        True,
        "sum the loss on audit patients too, in each evaluation; noised whenever there is a privacy.mechanism, "
        "whatever release says",
    )


@dataclass
class Baseline:
    """What the federated model is compared with at each site."""

    method: str = setting(
        "none",
        "alone: each site trains the same model on its own patients only, once, and counts its answers; none: nothing",
        choices=("none", "alone"),
    )
    share: float = setting(0.3, "part of privacy.epsilon that training alone may spend", above=0, high=0.9)


@dataclass
class Personal:
    """A model of each site's own, which never leaves it and costs no epsilon."""

    method: str = setting(
        "none",
        "ditto: trained beside the federated one and pulled to it; none: there is none",
        choices=("none", "ditto"),
    )
    pull: float = setting(1.0, "pull of the personal model to the received one; 0: each site alone", low=0, high=100)


@dataclass
class Fairness:
    """How unlike hospitals or groups may fare, and what follows."""

    limits: dict[str, float] = setting(
        {},
        "largest difference between groups (demographic_parity, equal_opportunity, equalized_odds, accuracy) and "
        "between the mean and the worst site (worst_site); judged by the lower end of the 95 % interval",
    )
    action: str = setting(
        "report",
        "what happens beyond a limit; report: the verdict says so; stop: the run ends, and fails",
        choices=("report", "stop"),
    )
    final: str = setting(
        "last",
        "which round's model is the result; last; or best: by the audit losses (together, worst site) and, within "
        "their intervals, by the gaps",
        choices=("last", "best"),
    )


@dataclass
class Study:
    """One study, resolved. Enters the hospital with every request."""

    name: str = setting("demo", "short name", pattern=r"[a-z0-9][a-z0-9-]{0,39}")
    purpose: str = setting(REQUIRED, "why the study is done, in plain words; shown to the hospitals")
    task: Task = setting(REQUIRED, "what is predicted, from what")
    model: Model = setting(REQUIRED, "the distilled starting point")
    adapter: Adapter = setting(REQUIRED, "which parameters are trained, and travel")
    training: Training = setting(REQUIRED, "one round of local fine-tuning")
    standardize: Standardize = setting(REQUIRED, "what the inputs are centred and scaled by")
    privacy: Privacy = setting(REQUIRED, "the privacy asked for")
    selection: Rule = setting(REQUIRED, "which sites take part in a round")
    weighting: Rule = setting(REQUIRED, "how much each site counts")
    combining: Rule = setting(REQUIRED, "how updates become one")
    optimizing: Rule = setting(REQUIRED, "how the coordinator steps along the combined update")
    reweighting: Rule = setting(REQUIRED, "fairness-aware weights of examples at the site")
    personal: Personal = setting(REQUIRED, "a model of each site's own")
    baseline: Baseline = setting(REQUIRED, "what the model is compared with at each site")
    evaluation: Evaluation = setting(REQUIRED, "what is counted after each round")
    fairness: Fairness = setting(REQUIRED, "how unlike hospitals or groups may fare")
    contribution: Rule = setting(REQUIRED, "what each site's updates have brought")
    explainability: Explainability = setting(REQUIRED, "what is asked about the reasons")
    rounds: int = setting(5, "rounds of federated training", unit="rounds", low=1, high=10_000)
    sites: list[str] = setting(
        [], "sites that take part; the run waits for them and names the absent; empty: whoever is connected"
    )
    min_sites: int = setting(2, "fewest sites whose updates may be averaged", unit="sites", low=1)
    round_minutes: float = setting(60.0, "a round waits no longer for its sites", unit="minutes", above=0)
    patience: float = setting(
        4.0,
        "how many times its slowest earlier answer of the same kind a site is waited for; round_minutes stays the most",
        low=1,
    )
    quarantine_after: int = setting(
        3, "rounds in a row with unusable answers after which a site is no longer asked", unit="rounds", low=1
    )
    start_minutes: float = setting(2.0, "the run waits no longer for its first sites", unit="minutes", above=0)
    seed: int = setting(
        1,
        "public: first head, frozen LoRA factor, and the samples of a run without privacy; never noise",
        low=0,
        high=2**32 - 1,
    )

"""What a hospital says about itself. Hospital IT owns it; nothing of it enters a study."""

from dataclasses import dataclass

from fedfm.config.settings import REQUIRED, setting

RELEASES = (
    "statistics",
    "evaluation",
    "groups",
    "alone_count",
    "loss",
    "audit_groups",
    "explanation",
    "terms",
    "check",
)
"""What may leave a hospital beside the update, by its purpose in the ledger."""


@dataclass
class Group:
    """A protected attribute of this hospital's table."""

    column: str = setting(REQUIRED, "column that holds it")
    values: dict[str, str] = setting({}, "value in the file to group; empty: the value itself")
    bands: list[float] = setting([], "borders that turn a number into bands, for example [40, 65]")


@dataclass
class Split:
    """How patients are divided; stable under re-runs, re-ordering and new patients."""

    train: float = setting(0.7, "share of patients that train", above=0, high=1)
    audit: float = setting(0.1, "share of patients for checks before sending", low=0, high=1)
    test: float = setting(0.2, "share of patients for evaluation", low=0, high=1)
    column: str = setting("", "column that already says train, audit or test; replaces the shares")


@dataclass
class Data:
    """Where the patients' table is and what its columns mean."""

    path: str = setting(REQUIRED, "CSV (.csv, .csv.gz) or Parquet (.parquet) file")
    loader: str = setting(REQUIRED, "how a row becomes an example", choices=("text", "template", "columns"))
    patient: str = setting(REQUIRED, "column with the patient's identifier; used at the site only")
    label: str = setting(REQUIRED, "column with the outcome")
    label_map: dict[str, str] = setting(REQUIRED, "value in the file to the study's label, for every value")
    text: str = setting("", "column with the note, for loader = text")
    template: str = setting(
        "",
        "for loader = template: '{age}-year-old {sex}; blood pressure {trestbps} mmHg'; a clause (between ';') "
        "with a missing value is left out",
    )
    words: dict[str, dict[str, str]] = setting({}, "for loader = template: column to a map from value to word")
    columns: dict[str, str] = setting(
        {}, "for loader = columns: the study's column to this file's; a study has no others"
    )
    groups: dict[str, Group] = setting({}, "protected attributes this hospital can name")
    split: Split = setting(REQUIRED, "how patients are divided")


@dataclass
class Explanations:
    """What this hospital's own people watch in the reasons of a model; nothing of it leaves."""

    shortcuts: dict[str, list[str]] = setting(
        {}, "name to the words, phrases or columns that must not decide, beside those of the study"
    )
    swaps: dict[str, dict[str, str]] = setting(
        {}, "name to phrases that are exchanged to see whether the answer changes, beside those of the study"
    )
    keep_days: int = setting(
        90,
        "how long checks and checked models of earlier runs stay in the state folder; removed when the next check is "
        "kept",
        unit="days",
        low=1,
    )


@dataclass
class Network:
    """How this hospital reaches the coordinator. The trainer reads none of it: it has no network."""

    coordinator: str = setting("", "host:port of the coordinator's gRPC Fleet API, for example fl.example.org:9092")
    authority: str = setting("", "file with the certificate of the coordinator's authority, ca.crt")
    node_key: str = setting("", "file with this hospital's private node key; its .pub goes to the coordinator")
    tunnel: str = setting(
        "", "host:port of the coordinator's tunnel, where only admitted hospitals get to its port; empty: none"
    )
    tunnel_files: str = setting(
        "", "folder with tunnel.key, tunnel.crt and coordinator.crt, which fedfm-site tunnel has made"
    )


@dataclass
class Policy:
    """Caps that no study can exceed. Beyond one, the site refuses and spends nothing."""

    approval: str = setting(
        "required",
        "required: a study is answered once a person here has approved it (fedfm-site approve), as it is and no other; "
        "none: whatever stays within the caps is answered, only for public or invented data",
        choices=("required", "none"),
    )
    max_epsilon: float = setting(3.0, "most that one patient may ever spend, over all studies", above=0, high=100)
    max_epsilon_per_run: float = setting(0.0, "most that one run may spend of it; 0: all of it", low=0, high=100)
    max_delta: float = setting(1e-3, "largest chance of failure", above=0, high=0.1)
    min_noise_multiplier: float = setting(0.3, "least noise of any release", low=0)
    max_grad_norm: float = setting(
        10.0, "largest clipping norm; under a huge one the noise drowns in rounding", above=0, high=1e4
    )
    max_rounds: int = setting(200, "most rounds of a study", unit="rounds", low=1)
    max_local_steps: int = setting(1000, "most steps of a round", unit="steps", low=1)
    max_minutes_per_round: float = setting(
        60.0,
        "what trains longer, counted from the request on and with all that it trains (baseline=alone, personal=ditto), "
        "is ended after the step it is in; nothing is sent, the charge stays",
        unit="minutes",
        above=0,
    )
    min_sites: int = setting(2, "fewest sites a study must average over", unit="sites", low=1)
    min_patients: int = setting(20, "fewest training patients to take part", unit="patients", low=2)
    models: list[str] = setting(
        [],
        "allowed weights, by the SHA-256 of model.safetensors; none: a model that starts without weights; empty: any",
        pattern="[0-9a-f]{64}|none",
    )
    tasks: list[str] = setting(
        [], "allowed tasks, by the hash that fedfm-site approve shows; empty: any", pattern="[0-9a-f]{64}"
    )
    releases: list[str] = setting(
        list(RELEASES),
        "what may leave beside the update; statistics: sums of the inputs before round 1; evaluation: test patients by "
        "label and score; groups: the same by group; alone_count: the same of a model trained here alone; loss, "
        "audit_groups: losses and counts of audit patients; explanation, terms, check: figures of reasons, credits of "
        "a public vocabulary, figures of reasons before sending. A study that asks for another is refused",
        choices=RELEASES,
    )
    on_failed_check: str = setting(
        "flag",
        "what follows when a model that is about to be sent decides for reasons that do not hold; flag: it is sent, "
        "and said; downweight: sent, to count half; withhold: nothing is sent",
        choices=("flag", "downweight", "withhold"),
    )
    small_cells: str = setting(
        "cms",
        "smallest cell of exact counts; cms: none from 1 to 10, nor derivable; redact7_round5: none up to 7, others in "
        "steps of 5; none: as they are, only for public data",
        choices=("cms", "redact7_round5", "none"),
    )
    units: list[str] = setting(["patient"], "accepted units of privacy", choices=("patient", "record"))
    allow_reduced_precision: bool = setting(
        False, "accept bfloat16: rounding lets one patient move the gradients of others by about 0.1 % of the clip"
    )
    allow_no_privacy: bool = setting(False, "accept studies without a mechanism; only for public data")
    allow_exact_evaluation: bool = setting(False, "accept exact counts; only for public data")
    allow_random_weights: bool = setting(False, "accept a model without pinned weights; only for tests")


@dataclass
class Site:
    """One hospital, resolved. Stays in the trainer."""

    id: str = setting(
        REQUIRED, "short name, the one registered with the coordinator", pattern=r"[a-z0-9][a-z0-9-]{1,31}"
    )
    display_name: str = setting("", "name for people; empty: the id")
    declared_patients: int = setting(
        REQUIRED, "public, rounded number of training patients; also the weight in averages", unit="patients", low=2
    )
    cohort: str = setting("", "name of this set of patients in the privacy ledger; empty: the id")
    data: Data = setting(REQUIRED, "where the patients' table is and what its columns mean")
    policy: Policy = setting(REQUIRED, "caps that no study can exceed")
    network: Network = setting(REQUIRED, "how this hospital reaches the coordinator")
    explanations: Explanations = setting(REQUIRED, "what this hospital watches in the reasons of a model")
    state: str = setting(REQUIRED, "directory for ledger, audit log and caches; keep it, back it up, do not edit it")
    device: str = setting(
        "auto",
        "where to compute; auto takes the first CUDA device where there is one, else the CPU; cuda:1 is the second of "
        "several",
        pattern=r"auto|cpu|cuda(:(0|[1-9][0-9]?))?",
    )
    threads: int = setting(0, "CPU threads; 0: all", unit="threads", low=0)
    micro_batch: int = setting(
        0,
        "examples in memory at once; does not change the result; 0: by the free memory, at most 64 on a CPU and 512 "
        "on a GPU",
        unit="examples",
        low=0,
    )
    max_rank: int = setting(
        0, "largest rank of a low-rank adapter trained here, for a small GPU; 0: the study's", low=0, high=256
    )
    max_steps: int = setting(
        0, "most optimiser steps a round, for a slow machine; 0: as many as the study asks", unit="steps", low=0
    )
    weights: dict[str, str] = setting(
        {}, "model hash (sha256) to a local folder that holds it; for sites without a hub"
    )

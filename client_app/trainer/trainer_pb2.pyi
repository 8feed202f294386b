from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Request(_message.Message):
    __slots__ = ("wire_version", "run", "study_json", "round", "layout", "parameters", "statistics", "ledger_entries", "ledger_seal", "frozen", "audit_entries", "audit_seal")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STUDY_JSON_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEAL_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SEAL_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    run: str
    study_json: str
    round: int
    layout: str
    parameters: bytes
    statistics: bytes
    ledger_entries: int
    ledger_seal: str
    frozen: bytes
    audit_entries: int
    audit_seal: str
    def __init__(self, wire_version: _Optional[int] = ..., run: _Optional[str] = ..., study_json: _Optional[str] = ..., round: _Optional[int] = ..., layout: _Optional[str] = ..., parameters: _Optional[bytes] = ..., statistics: _Optional[bytes] = ..., ledger_entries: _Optional[int] = ..., ledger_seal: _Optional[str] = ..., frozen: _Optional[bytes] = ..., audit_entries: _Optional[int] = ..., audit_seal: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class PrivacySpent(_message.Message):
    __slots__ = ("unit", "delta", "train", "audit", "test", "run", "planned", "noise_multiplier", "entries", "seal", "audit_entries", "audit_seal")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    NOISE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SEAL_FIELD_NUMBER: _ClassVar[int]
    unit: str
    delta: float
    train: float
    audit: float
    test: float
    run: float
    planned: float
    noise_multiplier: float
    entries: int
    seal: str
    audit_entries: int
    audit_seal: str
    def __init__(self, unit: _Optional[str] = ..., delta: _Optional[float] = ..., train: _Optional[float] = ..., audit: _Optional[float] = ..., test: _Optional[float] = ..., run: _Optional[float] = ..., planned: _Optional[float] = ..., noise_multiplier: _Optional[float] = ..., entries: _Optional[int] = ..., seal: _Optional[str] = ..., audit_entries: _Optional[int] = ..., audit_seal: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("site", "declared_patients", "layout", "device", "groups", "privacy")
    SITE_FIELD_NUMBER: _ClassVar[int]
    DECLARED_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    site: str
    declared_patients: int
    layout: str
    device: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    privacy: PrivacySpent
    def __init__(self, site: _Optional[str] = ..., declared_patients: _Optional[int] = ..., layout: _Optional[str] = ..., device: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., privacy: _Optional[_Union[PrivacySpent, _Mapping]] = ...) -> None: ...

class SummariseReply(_message.Message):
    __slots__ = ("site", "round", "sums", "sums_sd", "seconds", "privacy")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    SUMS_SD_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    site: str
    round: int
    sums: _containers.RepeatedScalarFieldContainer[float]
    sums_sd: float
    seconds: float
    privacy: PrivacySpent
    def __init__(self, site: _Optional[str] = ..., round: _Optional[int] = ..., sums: _Optional[_Iterable[float]] = ..., sums_sd: _Optional[float] = ..., seconds: _Optional[float] = ..., privacy: _Optional[_Union[PrivacySpent, _Mapping]] = ...) -> None: ...

class TrainReply(_message.Message):
    __slots__ = ("site", "round", "layout", "update", "declared_patients", "seconds", "privacy", "steps", "check", "check_sd", "downweighted")
    class CheckEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    DECLARED_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    CHECK_SD_FIELD_NUMBER: _ClassVar[int]
    DOWNWEIGHTED_FIELD_NUMBER: _ClassVar[int]
    site: str
    round: int
    layout: str
    update: bytes
    declared_patients: int
    seconds: float
    privacy: PrivacySpent
    steps: int
    check: _containers.ScalarMap[str, float]
    check_sd: float
    downweighted: bool
    def __init__(self, site: _Optional[str] = ..., round: _Optional[int] = ..., layout: _Optional[str] = ..., update: _Optional[bytes] = ..., declared_patients: _Optional[int] = ..., seconds: _Optional[float] = ..., privacy: _Optional[_Union[PrivacySpent, _Mapping]] = ..., steps: _Optional[int] = ..., check: _Optional[_Mapping[str, float]] = ..., check_sd: _Optional[float] = ..., downweighted: _Optional[bool] = ...) -> None: ...

class EvaluateReply(_message.Message):
    __slots__ = ("site", "round", "labels", "cells", "cells_sd", "explanation", "explanation_sd", "seconds", "privacy", "groups", "groups_sd", "losses", "losses_sd", "audit_groups", "audit_groups_sd", "alone", "alone_sd", "terms", "terms_sd", "term_documents_sd")
    class ExplanationEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class GroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Table
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Table, _Mapping]] = ...) -> None: ...
    class LossesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class AuditGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Table
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Table, _Mapping]] = ...) -> None: ...
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    CELLS_SD_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_SD_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_SD_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    LOSSES_SD_FIELD_NUMBER: _ClassVar[int]
    AUDIT_GROUPS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_GROUPS_SD_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    ALONE_SD_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    TERMS_SD_FIELD_NUMBER: _ClassVar[int]
    TERM_DOCUMENTS_SD_FIELD_NUMBER: _ClassVar[int]
    site: str
    round: int
    labels: int
    cells: _containers.RepeatedScalarFieldContainer[float]
    cells_sd: float
    explanation: _containers.ScalarMap[str, float]
    explanation_sd: float
    seconds: float
    privacy: PrivacySpent
    groups: _containers.MessageMap[str, Table]
    groups_sd: float
    losses: _containers.ScalarMap[str, float]
    losses_sd: float
    audit_groups: _containers.MessageMap[str, Table]
    audit_groups_sd: float
    alone: _containers.RepeatedScalarFieldContainer[float]
    alone_sd: float
    terms: _containers.RepeatedScalarFieldContainer[float]
    terms_sd: float
    term_documents_sd: float
    def __init__(self, site: _Optional[str] = ..., round: _Optional[int] = ..., labels: _Optional[int] = ..., cells: _Optional[_Iterable[float]] = ..., cells_sd: _Optional[float] = ..., explanation: _Optional[_Mapping[str, float]] = ..., explanation_sd: _Optional[float] = ..., seconds: _Optional[float] = ..., privacy: _Optional[_Union[PrivacySpent, _Mapping]] = ..., groups: _Optional[_Mapping[str, Table]] = ..., groups_sd: _Optional[float] = ..., losses: _Optional[_Mapping[str, float]] = ..., losses_sd: _Optional[float] = ..., audit_groups: _Optional[_Mapping[str, Table]] = ..., audit_groups_sd: _Optional[float] = ..., alone: _Optional[_Iterable[float]] = ..., alone_sd: _Optional[float] = ..., terms: _Optional[_Iterable[float]] = ..., terms_sd: _Optional[float] = ..., term_documents_sd: _Optional[float] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("rows", "cells")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    cells: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[int] = ..., cells: _Optional[_Iterable[float]] = ...) -> None: ...

class DescribeAnswer(_message.Message):
    __slots__ = ("description", "refusal")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    description: Description
    refusal: Refusal
    def __init__(self, description: _Optional[_Union[Description, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class SummariseAnswer(_message.Message):
    __slots__ = ("reply", "refusal")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    reply: SummariseReply
    refusal: Refusal
    def __init__(self, reply: _Optional[_Union[SummariseReply, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class TrainAnswer(_message.Message):
    __slots__ = ("reply", "refusal")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    reply: TrainReply
    refusal: Refusal
    def __init__(self, reply: _Optional[_Union[TrainReply, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class EvaluateAnswer(_message.Message):
    __slots__ = ("reply", "refusal")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    reply: EvaluateReply
    refusal: Refusal
    def __init__(self, reply: _Optional[_Union[EvaluateReply, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class StatusAnswer(_message.Message):
    __slots__ = ("wire_version", "fedfm_version", "site")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEDFM_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    fedfm_version: str
    site: str
    def __init__(self, wire_version: _Optional[int] = ..., fedfm_version: _Optional[str] = ..., site: _Optional[str] = ...) -> None: ...

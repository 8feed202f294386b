"""What a hospital says when it joins, and the files that follow from it."""

import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from fedfm.config.settings import REQUIRED, Setting, settings_of
from fedfm.config.site import Policy

_WIDTH = 118


@dataclass(frozen=True)
class Weights:
    """Models that this hospital has.

    Attributes:
        folder: Where they are now; they are copied into the hospital's folder.
        models: SHA-256 of model.safetensors to the sub-folder that holds it.
    """

    folder: Path
    models: Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """All that ``fedfm-site init`` was told.

    Attributes:
        id: Short name of the hospital.
        display_name: Its name for people.
        declared_patients: Public, rounded number of training patients.
        table: Name of the table's file.
        data_folder: The folder on this host that holds it.
        loader: ``text``, ``template`` or ``columns``.
        reads: What the loader reads: the column of the note, the template, or columns with commas between.
        patient: Column of the patient's identifier.
        label: Column of the outcome.
        label_map: Value in the file to the study's label.
        sex: Column of sex; "" for none.
        sex_words: Value of that column to group.
        age: Column of age in years; "" for none.
        coordinator: ``host:port`` of the coordinator.
        authority: The coordinator's ca.crt.
        device: ``auto``, ``cpu`` or ``cuda``.
        weights: Models that studies may name; None for none yet.
    """

    id: str
    display_name: str
    declared_patients: int
    table: str
    data_folder: Path
    loader: str
    reads: str
    patient: str
    label: str
    label_map: Mapping[str, str]
    sex: str
    sex_words: Mapping[str, str]
    age: str
    coordinator: str
    authority: Path = field(repr=False)
    device: str = "cpu"
    weights: Weights | None = None


def site_yaml(said: Answers) -> str:
    """Return the hospital's site file; paths are those inside its containers."""
    lines = (
        ("# Written by fedfm-site init. Yours to change; then: docker compose restart trainer", ""),
        ("# Paths are those inside the containers. What no study may exceed stands in policy.yaml.", ""),
        (f"id: {_quoted(said.id)}", "the name registered with the coordinator"),
        (f"display_name: {_quoted(said.display_name)}", ""),
        (f"declared_patients: {said.declared_patients}", "public: your training patients, rounded"),
        ("state: /var/lib/fedfm", "ledger and audit log: keep it, back it up, do not edit it"),
        (f"device: {said.device}", "auto | cpu | cuda"),
        *_weights(said),
        ("data:", ""),
        (f"  path: {_quoted(f'/data/{said.table}')}", "as the trainer's container sees it"),
        (f"  loader: {said.loader}", "text | template | columns"),
        (f"  patient: {_quoted(said.patient)}", "used here only, never sent"),
        (f"  label: {_quoted(said.label)}", ""),
        (f"  label_map: {_map(said.label_map)}", "every value in the file: the study's label"),
        _reads(said),
        ("  split: {train: 0.7, audit: 0.1, test: 0.2}", "of patients; another split later spends their budget anew"),
        *_groups(said),
        ("network:", "for fedfm-site doctor; the trainer has no network"),
        (f"  coordinator: {_quoted(said.coordinator)}", ""),
        ("  authority: /etc/fedfm/ca.crt", ""),
        ("  node_key: /run/secrets/node.key", ""),
    )
    return "".join(f"{setting:<36} # {comment}\n" if comment else f"{setting}\n" for setting, comment in lines)


def policy_yaml() -> str:
    """Return the policy file: every cap with its default and its meaning."""
    head = (
        "# Written by fedfm-site init: caps that no study can exceed. The data-protection officer's to change;\n"
        "# then: docker compose restart trainer. Beyond a cap the site refuses and spends nothing.\n"
    )
    return head + "".join(map(_cap, settings_of(Policy)))


def environment(said: Answers, *, version: str) -> str:
    """Return the ``.env`` of ``docker compose``; it holds no secret."""
    return f"""\
# Written by fedfm-site init, for docker compose; holds no secret. Yours to change; then: docker compose up -d
COMPOSE_FILE=site.compose.yaml
COMPOSE_PROJECT_NAME=fedfm-{said.id}
COMPOSE_PROFILES={"gpu" if said.device == "cuda" else "cpu"}
FEDFM_VERSION={version}
FEDFM_COORDINATOR={said.coordinator}
# the folder on this host with the patients' table; only the trainer sees it, read-only
FEDFM_DATA='{said.data_folder}'
# the folder on this host with models, each in a folder of its own
FEDFM_WEIGHTS='./weights'
"""


def _weights(said: Answers) -> list[tuple[str, str]]:
    if not said.weights:
        return [("weights: {}", "hash of model.safetensors: its folder, for example /weights/all-MiniLM-L6-v2")]
    named = [(f"  {digest}: {_quoted(f'/weights/{name}')}", "") for digest, name in said.weights.models.items()]
    return [("weights:", "hash of model.safetensors: its folder"), *named]


def _reads(said: Answers) -> tuple[str, str]:
    if said.loader == "columns":
        names = {name: name for name in said.reads.split(",")}
        return f"  columns: {_map(names)}", "the study's name: this file's; all that studies may use"
    return f"  {said.loader}: {_quoted(said.reads)}", ""


def _groups(said: Answers) -> list[tuple[str, str]]:
    """Return the groups for fairness; a column whose words nobody knows is left for a person to add."""
    lines = []
    if said.sex and said.sex_words:
        lines.append((f"    sex: {{column: {_quoted(said.sex)}, values: {_map(said.sex_words)}}}", ""))
    if said.age:
        lines.append((f"    age_band: {{column: {_quoted(said.age)}, bands: [40, 65]}}", "borders in years"))
    if not lines:
        return [("  groups: {}", "for fairness: sex, age_band; docs/data.md")]
    return [("  groups:", "for fairness; leave out what you do not have"), *lines]


def _cap(entry: Setting) -> str:
    if entry.default == REQUIRED:
        return ""
    unit = f" ({entry.rule['unit']})" if entry.rule["unit"] else ""
    words = f"{entry.rule['meaning']}{unit}"
    comment = "\n".join(textwrap.wrap(words, _WIDTH, initial_indent="# ", subsequent_indent="# "))
    return f"\n{comment}\n{entry.path}: {json.dumps(entry.default, ensure_ascii=False)}\n"


def _quoted(text: str, *, is_key: bool = False) -> str:
    """Return text as YAML reads it back, whatever stands in it; in keys, nothing is interpolated."""
    text = text if is_key else text.replace("${", "\\${")
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)).rstrip("\n")


def _map(pairs: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_quoted(key, is_key=True)}: {_quoted(word)}" for key, word in pairs.items()) + "}"

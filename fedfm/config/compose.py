"""Compose a study from ``conf/`` and overrides, or a site from its file, and check it whole.

The coordinator calls ``compose_study``; a hospital calls ``load_site``, and
``study_from_json`` on what the coordinator sent.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fedfm.config.checks import build
from fedfm.config.coherence.site import check_site
from fedfm.config.coherence.study import RULE_SETTINGS, check_rules, check_study
from fedfm.config.origins import Source, read_source
from fedfm.config.overrides import Change, read_overrides
from fedfm.config.policy import POLICY_FILE
from fedfm.config.problems import Place, Problems
from fedfm.config.settings import settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors

_LONGEST_STUDY = 1_000_000  # characters; a study of 200 columns has 15,000


@dataclass(frozen=True)
class Composed:
    """A checked study and where each of its values comes from.

    Attributes:
        value: The study.
        origins: Setting path to ``conf/study.yaml:12``, ``override`` or ``default``.
        choices: Group to the option that was chosen, for example ``{"model": "minilm"}``.
    """

    value: Study
    origins: dict[str, str]
    choices: dict[str, str]


def compose_study(overrides: Sequence[str] = (), *, conf: Path | None = None) -> Composed:
    """Compose the study that ``conf/study.yaml``, its groups and the overrides describe.

    Nothing is written to disk.

    Args:
        overrides: For example ``["model=minilm", "privacy.epsilon=3"]``.
        conf: Folder that holds ``study.yaml``; the project's own where None.

    Raises:
        ConfigErrors: Every problem at once, each with file and line or with the override's text.
    """
    conf = (_project_conf() if conf is None else conf).resolve()
    sources: list[Source] = []
    changes: list[Change] = []
    names = tuple(entry.path for entry in settings_of(Study))
    problems = Problems("STUDY", lambda path: _place(path, changes, sources), names)
    sources.append(read_source(conf / "study.yaml", f"{conf.name}/study.yaml", problems))
    problems.raise_if_any()
    groups = _groups(conf)
    changes += read_overrides(overrides, groups, problems)
    can_cross_check = not problems.errors
    tree, choices = _compose_tree(conf, changes, problems)
    sources[:] = _chosen_sources(conf, sources[0], choices, problems)
    study: Study = build(Study, tree, problems)
    if can_cross_check:
        check_study(study, problems)
        check_rules(study, {group: groups[group] for group in RULE_SETTINGS}, problems)
    problems.raise_if_any()
    origins = {path: _origin(path, changes, sources) for path in names if "[]" not in path}
    return Composed(study, origins, choices)


def load_site(path: Path) -> Site:
    """Read and check one hospital's ``site.yaml``, and the ``policy.yaml`` beside it where there is one.

    Relative paths in it count from the folder of the file; ``${oc.env:NAME}`` is replaced
    by the environment variable.

    Raises:
        ConfigErrors: Every problem at once, each with file and line.
    """
    path = path.resolve()  # of a link, the policy lies beside the file itself, as all else does
    sources = [Source(path.name)]
    names = tuple(entry.path for entry in settings_of(Site))
    problems = Problems("SITE", lambda setting: _site_place(setting, sources), names)
    if not path.is_file():
        fix = "copy conf/site/example.yaml there and fill it in"
        problems.add_at("E032", "no site file", str(path), found="a folder" if path.is_dir() else "nothing", fix=fix)
        problems.raise_if_any()
    sources[0].places.update(read_source(path, path.name, problems).places)
    problems.raise_if_any()
    tree = _with_policy(path, _site_tree(path, problems), sources, problems)
    site: Site = build(Site, tree, problems)
    check_site(site, problems)
    problems.raise_if_any()
    folder = path.parent
    return replace(
        site,
        state=str(folder / site.state),
        data=replace(site.data, path=str(folder / site.data.path)),
        weights={digest: str(folder / where) for digest, where in site.weights.items()},
    )


def study_to_json(study: Study) -> str:
    """The study as the text that is sent to the hospitals; the same study gives the same text."""
    return json.dumps(asdict(study), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def study_from_json(text: str) -> Study:
    """Read and check a study that a coordinator sent; the text is not trusted.

    Nothing in it is evaluated: no interpolation, no resolver, no name of code.

    Raises:
        ConfigErrors: Every problem at once, each with its setting.
    """
    problems = Problems("STUDY", lambda _: Place("study received"), tuple(entry.path for entry in settings_of(Study)))
    tree = _json_tree(text, problems)
    problems.raise_if_any()
    study: Study = build(Study, tree, problems)
    check_study(study, problems)
    problems.raise_if_any()
    return study


def _project_conf() -> Path:
    """``conf`` beside the package, as in a checkout and in the app that Flower ships; else inside it."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "conf"
    return beside if (beside / "study.yaml").is_file() else package / "conf"


def _groups(conf: Path) -> dict[str, tuple[str, ...]]:
    """Group to options: the groups that the defaults list of ``study.yaml`` names."""
    entries = (yaml.safe_load((conf / "study.yaml").read_text(encoding="utf-8")) or {}).get("defaults", [])
    names = [str(name).removeprefix("optional ") for entry in entries if isinstance(entry, dict) for name in entry]
    return {name: tuple(sorted(file.stem for file in (conf / name).glob("*.yaml"))) for name in names}


def _compose_tree(conf: Path, changes: Sequence[Change], problems: Problems) -> tuple[object, dict[str, str]]:
    try:
        with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
            config = compose("study", [change.hydra for change in changes], return_hydra_config=True)
        chosen: Mapping[str, str | None] = config.hydra.runtime.choices
        choices = {str(group): option for group, option in chosen.items() if option and not group.startswith("hydra/")}
        with open_dict(config):
            del config["hydra"]
        return OmegaConf.to_container(config, resolve=True), choices
    except (yaml.YAMLError, HydraException, OmegaConfBaseException, ValueError) as error:
        for file in sorted(conf.rglob("*.yaml")):
            read_source(file, str(file.relative_to(conf.parent)), problems)
        if not problems.errors:
            _add_hydra_error(error, conf, changes, problems)
        raise ConfigErrors(problems.errors) from error


def _add_hydra_error(error: Exception, conf: Path, changes: Sequence[Change], problems: Problems) -> None:
    key = getattr(error, "full_key", None)
    blamed = [
        change for change in changes if str(error).startswith("Error merging override") and change.hydra in str(error)
    ]
    if blamed:
        why = _first_line(error.__cause__ or error)
        fix = "look at the composed study without it: fedfm-study config"
        problems.add_at("E033", f"this override cannot be applied: {why}", f"override {blamed[-1].text!r}", fix=fix)
    elif key is not None:
        problems.add("E031", _first_line(error), path=str(key), fix="write the value itself")
    else:
        fix = "check the defaults lists of the files chosen"
        problems.add_at("E034", _first_line(error), str(conf / "study.yaml"), fix=fix)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _chosen_sources(conf: Path, root: Source, choices: Mapping[str, str], problems: Problems) -> list[Source]:
    """The files that make the study, the one that wins first."""
    option = {**choices}
    first = option.pop("experiment", None)
    chosen = [("experiment", first, "")] if first else []
    sources = [_source(conf, group, name, prefix, problems) for group, name, prefix in chosen]
    return [*sources, root, *(_source(conf, group, name, group, problems) for group, name in option.items())]


def _source(conf: Path, group: str, option: str, prefix: str, problems: Problems) -> Source:
    file = conf / group / f"{option}.yaml"
    return read_source(file, str(file.relative_to(conf.parent)), problems, prefix=prefix)


def _place(path: str, changes: Sequence[Change], sources: Sequence[Source]) -> Place:
    for change in reversed(changes):
        if any(path == filled or path.startswith(f"{filled}.") for filled in change.paths):
            return Place(f"override {change.text!r}", change.written if path == change.key else None)
    inside = [change for change in changes if any(filled.startswith(f"{path}.") for filled in change.paths)]
    if path and inside:
        return Place(f"override {inside[-1].text!r}")
    for source in sources:
        if place := source.place(path):
            return place
    owners = [source.name for source in sources if source.prefix and path.startswith(source.prefix)]
    return Place(owners[0] if owners else sources[0].name if sources else "")


def _origin(path: str, changes: Sequence[Change], sources: Sequence[Source]) -> str:
    if any(filled == path or filled.startswith(f"{path}.") for change in changes for filled in change.paths):
        return "override"
    places = (source.place(path) for source in sources)
    return next((place.where for place in places if place), "default")


def _site_place(path: str, sources: Sequence[Source]) -> Place:
    """The line of a setting, or of the nearest map around it."""
    around = path
    while around:
        for source in sources:
            if place := source.place(around):
                return place if around == path else Place(place.where)
        around = around.rpartition(".")[0]
    owners = [source.name for source in sources if source.prefix and path.startswith(source.prefix)]
    return Place(owners[0] if owners else sources[0].name)


def _with_policy(path: Path, tree: object, sources: list[Source], problems: Problems) -> object:
    """Put the policy file's content into the tree of the site file, where that has none itself."""
    beside = path.with_name(POLICY_FILE)
    for name in sorted(os.listdir(path.parent)):
        if name.lower() in (POLICY_FILE, "policy.yml") and name != POLICY_FILE:
            problems.add_at("E032", "a policy under a name that is not read", name, fix=f"call it {POLICY_FILE}")
    if not os.path.lexists(beside):  # a link to nothing is there, and cannot be read
        return tree
    sources.append(read_source(beside, beside.name, problems, prefix="policy"))
    if written := sources[0].place("policy"):
        fix = f"keep {POLICY_FILE}, and take the block out of {path.name}"
        problems.add_at("E030", f"the policy is given here and in {POLICY_FILE}", written.where, fix=fix)
    problems.raise_if_any()
    if not sources[-1].places:  # what was lost must not come back as a default
        problems.add_at("E002", "the policy file holds no setting", beside.name, fix="restore it; defaults: remove it")
    policy = _site_tree(beside, problems, prefix="policy.")
    return {**tree, "policy": policy} if isinstance(tree, dict) else tree


def _site_tree(path: Path, problems: Problems, *, prefix: str = "") -> object:
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        key = str(getattr(error, "full_key", None) or "")
        problems.add("E031", _first_line(error), path=prefix + key, fix="set the variable, or write the value")
        raise ConfigErrors(problems.errors) from error


def _json_tree(text: str, problems: Problems) -> object:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) != len(items):
            raise ValueError("a key is given twice")
        return dict(items)

    if len(text) > _LONGEST_STUDY:
        problems.add_at("E004", "the study is too long", "study received", found=f"{len(text)} characters")
        return None
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        what = f"the study cannot be read as JSON: {type(error).__name__}"
        problems.add_at("E004", what, "study received", fix="use the same version at both ends")
        return None

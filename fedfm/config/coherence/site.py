"""Settings of a site file that are each allowed and do not fit together."""

import re
from collections.abc import Callable
from string import Formatter

from fedfm.config.coherence.explainability import check_lists
from fedfm.config.problems import Problems, did_you_mean
from fedfm.config.site import Site


def check_site(site: Site, problems: Problems) -> None:
    """Add what does not fit together in a site file; a check is left out where its settings are broken."""
    for needs, check in _SITE_CHECKS:
        if not problems.touch(needs):
            check(site, problems)


def _loader(site: Site, problems: Problems) -> None:
    data = site.data
    for loader, name in (("text", "text"), ("template", "template"), ("columns", "columns")):
        if data.loader == loader and not getattr(data, name):
            problems.add("E030", f"loader = {loader} needs {name}", path=f"data.{name}", fix=f"add `{name}:`")
    if data.loader != "template":
        return
    try:
        names = [name for _, name, _, _ in Formatter().parse(data.template) if name is not None]
    except ValueError as error:
        problems.add("E030", f"the template cannot be read: {error}", path="data.template", fix="write {column}")
        return
    for name in sorted({name for name in names if not re.fullmatch(r"[^\W\d][\w -]*", name)}):
        what = f"{{{name}}} names no column"
        problems.add(
            "E030", what, path="data.template", allowed="{column}, a plain column name", fix="rename the column"
        )
    for column in sorted(set(data.words) - set(names)):
        fix = did_you_mean(column, names) or "leave it out"
        problems.add("E030", f"words for {column!r}, which the template does not use", path="data.words", fix=fix)


def _label_map(site: Site, problems: Problems) -> None:
    if not site.data.label_map:
        what = "label_map is empty, so no value would lead to a label"
        problems.add("E030", what, path="data.label_map", fix='write {"0": survived, "1": died}')


def _split(site: Site, problems: Problems) -> None:
    split = site.data.split
    total = split.train + split.audit + split.test
    if not split.column and abs(total - 1) > 1e-6:
        found = f"train {split.train:g} + audit {split.audit:g} + test {split.test:g} = {total:g}"
        problems.add("E030", "the shares must sum to 1", path="data.split", found=found, fix="change one of the three")


def _groups(site: Site, problems: Problems) -> None:
    for name, group in site.data.groups.items():
        path = f"data.groups.{name}.bands"
        if group.bands and group.values:
            problems.add("E030", "a group has either values or bands", path=path, fix="leave one of them out")
        if sorted(set(group.bands)) != group.bands:
            problems.add("E030", "borders of bands must rise", path=path, found=str(group.bands), fix="sort them")
        if not _is_name(name):
            what, fix = "an attribute's name joins it with groups and other attributes", "rename it"
            problems.add("E030", what, path=f"data.groups.{name}", allowed=_NAMES, fix=fix)
        for named in sorted({named for named in group.values.values() if not _is_name(named)}):
            what, path = "a group's name is joined with its attribute and other groups", f"data.groups.{name}.values"
            problems.add("E030", what, path=path, found=repr(named), allowed=_NAMES, fix="rename the group")


_NAMES = "a name without * and =, and not empty"


def _is_name(name: str) -> bool:
    """Whether ``attribute=group`` and ``one*other`` can be taken apart again."""
    return bool(name.strip()) and not set(name) & set("*=")


def _policy(site: Site, problems: Problems) -> None:
    if not site.policy.units:
        fix = "write [patient]"
        problems.add("E030", "no unit of privacy is accepted, so no study could run", path="policy.units", fix=fix)


def _site_weights(site: Site, problems: Problems) -> None:
    for digest in site.weights:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            what = "weights are named by the hash of model.safetensors"
            problems.add("E030", what, path=f"weights.{digest}", allowed="64 hexadecimal digits", fix="run sha256sum")


def _explanations(site: Site, problems: Problems) -> None:
    """Add the hospital's own lists that cannot be looked for; whether a study's have the same names, it sees later."""
    own, columns = site.explanations, list(site.data.columns) if site.data.loader == "columns" else None
    check_lists(own.shortcuts, own.swaps, problems, path="explanations", columns=columns)


_SITE_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Site, Problems], None]], ...] = (
    (("data.loader", "data.text", "data.template", "data.words", "data.columns"), _loader),
    (("data.label_map",), _label_map),
    (("data.split",), _split),
    (("data.groups",), _groups),
    (("policy.units",), _policy),
    (("weights",), _site_weights),
    (("explanations", "data.loader", "data.columns"), _explanations),
)

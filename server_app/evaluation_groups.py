"""Sites' counts by group become figures of each group and gaps between groups."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedfm.metrics.counts import by_class
from fedfm.metrics.gaps import Gap, LocalGap, Tables, gaps, local_gaps
from fedfm.metrics.groups import GroupFigures, group_figures
from fedfm.metrics.performance import OF_SCORES
from fedfm.wire import EvaluateReply


def by_group(replies: Sequence[EvaluateReply], positive: int) -> dict[str, GroupFigures | None]:
    """Add up each group's table over the sites that name it; each brings its own noise.

    Figures of scores are of the sites that tell score bins; the others of all sites that name the group.
    """
    found: dict[str, GroupFigures | None] = {}
    for key in _keys(replies):
        named = [reply for reply in replies if key in reply.groups]
        whole = _figures(named, key, positive, columns=min(reply.groups[key].shape[1] for reply in named))
        most = max(reply.groups[key].shape[1] for reply in named)
        scored = [reply for reply in named if reply.groups[key].shape[1] == most]
        if whole is not None and len(scored) < len(named):
            fine = _figures(scored, key, positive, columns=most)
            whole = replace(whole, **{name: getattr(fine, name) for name in OF_SCORES}) if fine else whole
        found[key] = whole
    return found


def gaps_over_all(replies: Sequence[EvaluateReply], positive: int) -> dict[str, dict[str, Gap | None]]:
    """Return attribute to the gaps between its groups, over the patients of all sites that name them."""
    listed: dict[str, list[str]] = {}
    for key in _keys(replies):
        listed.setdefault(_attribute(key), []).append(key)
    return {name: gaps(_added(replies, keys, positive), positive=positive) for name, keys in listed.items()}


def gaps_by_site(replies: Iterable[EvaluateReply], positive: int) -> dict[str, dict[str, dict[str, Gap | None]]]:
    """Return site to attribute to the gaps between the groups of its own patients."""
    return {reply.site: gaps_over_all([reply], positive) for reply in replies if reply.groups}


def gaps_within_sites(replies: Sequence[EvaluateReply], positive: int) -> dict[str, dict[str, LocalGap | None]]:
    """Return attribute to the worst and the mean of the sites' own gaps."""
    sites: dict[str, dict[str, Tables]] = {}
    for reply in replies:
        for attribute in dict.fromkeys(map(_attribute, reply.groups)):
            keys = [key for key in reply.groups if _attribute(key) == attribute]
            sites.setdefault(attribute, {})[reply.site] = _added([reply], keys, positive)
    return {attribute: local_gaps(sites[attribute], positive=positive) for attribute in sorted(sites)}


def _keys(replies: Iterable[EvaluateReply]) -> list[str]:
    return sorted({key for reply in replies for key in reply.groups})


def _attribute(key: str) -> str:
    """Return the attribute, or the intersection, of ``attribute=group``; no attribute has an equals sign in it."""
    return key.partition("=")[0]


def _added(replies: Sequence[EvaluateReply], keys: Sequence[str], positive: int) -> Tables:
    """Add up the tables of one attribute by predicted class; the noise is that of the noisiest group."""
    groups, noise = {}, 0.0
    for key in keys:
        named = [reply for reply in replies if key in reply.groups]
        groups[key] = np.sum([by_class(reply.groups[key], positive=positive) for reply in named], axis=0)
        noise = max(noise, math.hypot(*(_noise(reply, key, groups[key].shape[1]) for reply in named)))
    return Tables(groups, noise)


def _figures(replies: Sequence[EvaluateReply], key: str, positive: int, *, columns: int) -> GroupFigures | None:
    tables: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {
        reply.site: reply.groups[key]
        if reply.groups[key].shape[1] == columns
        else by_class(reply.groups[key], positive=positive)
        for reply in replies
    }
    noise = math.hypot(*(_noise(reply, key, columns) for reply in replies))
    return group_figures(np.sum(list(tables.values()), axis=0), sd=noise, positive=positive)


def _noise(reply: EvaluateReply, key: str, columns: int) -> float:
    """Return the noise of each cell where so many columns are left: of k cells in one, sqrt(k) times as much."""
    return reply.groups_sd * math.sqrt(reply.groups[key].shape[1] / columns)

"""What makes the whole suite quicker without changing what any test sees."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedfm.config import compose
from fedfm.config.overrides import Change
from fedfm.config.problems import Problems


@pytest.fixture(autouse=True, scope="session")
def same_overrides_are_composed_once() -> Iterator[None]:
    """Remember what Hydra made of the project's own ``conf/``, which no test changes; it takes longest."""
    made: dict[tuple[Path, tuple[str, ...]], Any] = {}
    real, own = compose._compose_tree, (Path(__file__).parents[1] / "conf").resolve()

    def remembered(conf: Path, changes: Sequence[Change], problems: Problems) -> Any:
        if conf != own:
            return real(conf, changes, problems)
        key = (conf, tuple(change.hydra for change in changes))
        if key not in made:
            made[key] = real(conf, changes, problems)
        return copy.deepcopy(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "_compose_tree", remembered)
        yield

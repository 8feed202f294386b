"""A small study and sites of any size, for tests of plans."""

from fedfm.config.compose import compose_study
from fedfm.config.site import Data, Policy, Site, Split
from fedfm.config.study import Study
from server_app.planning_feasible import Caps

CAPS = Caps(max_epsilon=3.0, least_noise=0.3)
HEAD = ["adapter=head", "model=tiny"]


def study_of(*overrides: str) -> Study:
    return compose_study([*HEAD, *overrides]).value


def site_of(patients: int) -> Site:
    data = Data(path="x", loader="text", patient="p", label="y", label_map={}, split=Split())
    return Site(id="north", declared_patients=patients, data=data, policy=Policy(allow_random_weights=True), state="s")

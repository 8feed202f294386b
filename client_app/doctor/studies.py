"""The study that a hospital is examined for."""

from dataclasses import replace

from client_app.doctor.examined import Examined
from fedfm.config.compose import compose_study
from fedfm.config.study import Column, Study, Task


def study_for(examined: Examined) -> Study:
    """Return the study that was named, or else the project's own default with a task that fits the site file."""
    if examined.study is not None:
        return examined.study
    data = examined.site.data
    if data.loader != "columns":
        return compose_study().value
    columns = [Column(name, 0, 1) for name in data.columns]
    study = compose_study(["task=heart_disease", "model=logistic", "adapter=full"]).value
    task = Task(inputs="columns", labels=study.task.labels, positive=study.task.positive, columns=columns)
    return replace(study, task=task)

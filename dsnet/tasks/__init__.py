"""The tasks: what a network of a family is for."""

from dsnet.errors import InputError
from dsnet.tasks.base import Measure, Measured, Task
from dsnet.tasks.classification import Classification

__all__ = ["CLASSIFICATION", "Measure", "Measured", "Task", "find", "register"]

TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Make a task known by its name. Raises InputError for a name that is taken."""
    if task.name in TASKS:
        raise InputError(f"register: expected a name that is free, found {task.name} taken")
    TASKS[task.name] = task
    return task


def find(name: str) -> Task:
    """The task of that name. Raises InputError if there is none."""
    if name not in TASKS:
        raise InputError(f"task must be one of {sorted(TASKS)}, found {name!r}")
    return TASKS[name]


CLASSIFICATION = register(Classification())

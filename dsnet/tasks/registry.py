"""The registered tasks, by name."""

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.tasks.base import Task
from dsnet.tasks.classification import Classification
from dsnet.tasks.denoise import Denoise

TASKS: dict[str, Task] = {}
RESERVED = frozenset(
    {"step", "loss", "losses", "gap", "madds", "average_madds", "memory_mb"}
    | {"confidences", "sample", "view", "label", "labels"}
)
"""Names that measures may not have: tables and metrics use them for other columns."""


def register(task: Task) -> Task:
    """Make a task known by its name.

    Raises InputError for a name that is taken, and for measures whose names are not distinct
    identifiers, or are reserved.
    """
    if task.name in TASKS:
        raise InputError(f"register: expected a name that is free, found {task.name} taken")
    names = [measure.name for measure in task.measures]
    wrong = [name for name in names if not name.isidentifier() or name in RESERVED]
    if wrong or len(set(names)) < len(names) or not names:
        raise InputError(
            f"register: task {task.name}: expected measures named by different identifiers, none "
            f"of {', '.join(sorted(RESERVED))}, found {', '.join(names) or 'none'}"
        )
    TASKS[task.name] = task
    return task


def find(name: str) -> Task:
    """The task of that name. Raises InputError if there is none."""
    if name not in TASKS:
        raise InputError(f"task must be one of {sorted(TASKS)}, found {shown(name)}")
    return TASKS[name]


CLASSIFICATION = register(Classification())
DENOISE = register(Denoise())

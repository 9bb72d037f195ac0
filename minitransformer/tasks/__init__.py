"""The tasks that can be learnt, by name."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from .base import Pair, Task
from .numbers import Numbers
from .sequences import Copy, Reverse, Sort

__all__ = ["TASKS", "Copy", "Numbers", "Pair", "Reverse", "Sort", "Task", "make_task", "task_from_dict"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (Copy, Reverse, Sort, Numbers)}


def make_task(name: str, **options: Any) -> Task:
    """Make a task by its name and its options, which are the fields of its class.

    Raises ValueError, naming what is legal, for a name, an option or a value that is not.

    >>> task = make_task("numbers", target="de", high=999)
    >>> task.slug, task.target_label
    ('numbers-en-de', 'German (de)')
    """
    if name not in TASKS:
        near = get_close_matches(name.lower(), TASKS, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise ValueError(f"there is no task {name!r}. {meant}Choose one of: {', '.join(TASKS)}.")
    legal = [field.name for field in fields(TASKS[name])]
    for option in options:
        if option not in legal:
            raise ValueError(f"{name}: there is no option {option!r}. Choose from: {', '.join(legal)}.")
    return TASKS[name](**options)


def task_from_dict(description: dict[str, Any]) -> Task:
    """Make the task that `Task.to_dict` described.

    >>> task_from_dict(make_task("copy", symbols=4).to_dict()) == make_task("copy", symbols=4)
    True
    """
    return make_task(**description)

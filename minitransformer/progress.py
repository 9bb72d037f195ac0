"""What training says while it runs: a bar in a terminal, a line now and then anywhere else."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_EVERY = 50  # steps between two plain lines


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, without the hours where there are none.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class TrainingProgress:
    """Loss, learning rate, tokens per second and the time that is left, while a `with` block trains.

    Speed is measured from the end of the first step, which compiles the kernels and would spoil it.
    """

    def __init__(self, console: Console, done: int, steps: int) -> None:
        self.console = console
        self.first = done
        self.steps = steps
        self.tokens = 0
        self.since: float | None = None
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done, state="")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Print a line; above the bar, if there is one."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, record: dict[str, float], tokens: int) -> None:
        """Show the record of the step that has just been taken with a batch of `tokens` tokens."""
        step = int(record["step"])
        state = f"loss {record['loss']:.4f}  lr {record['learning_rate']:.2e}"
        if self.since is None:
            self.since, self.first = time.perf_counter(), step
        else:
            self.tokens += tokens
            elapsed = time.perf_counter() - self.since
            left = elapsed / (step - self.first) * (self.steps - step)
            state += f"  {self.tokens / elapsed:,.0f} tokens/s  {clock(left)} left"
        self.bar.update(self.task, completed=step, state=state)
        if not self.console.is_terminal and (step % LINE_EVERY == 0 or step == self.steps):
            self.say(f"step {step}/{self.steps}  {state}")

"""Recordings as timelines for two viewers that run in a browser, without sending the file anywhere.

Chrome trace: the Trace Event Format, JSON of "complete" events, for https://ui.perfetto.dev and chrome://tracing.
speedscope: its own file format, profiles of frames that open and close, for https://www.speedscope.app.
The way forward and the way back are a track each: modules hold ops, ops hold kernels. The clock is that of the
recording, which stands still while the recorder works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..nn import Module
from .profile import ended
from .steps import Call, KernelCall, Step

if TYPE_CHECKING:
    from .recording import Recording

TRACKS = ("forward", "backward")
EXPORTER = "minigrad"
SCHEMA = "https://www.speedscope.app/file-format-schema.json"


class Span(NamedTuple):
    """Something that took a time, on one of the tracks; begin and end in microseconds."""

    track: int
    kind: str
    name: str
    start: float
    end: float
    about: Any = None  # the step, if it was one, or the call of a kernel


def save_trace(recording: Recording, path: str | Path) -> Path:
    """See `Recording.save_trace`."""
    ended(recording, "save_trace()")
    events: list[dict[str, Any]] = [_named("process_name", 0, name=f"minigrad: {_title(recording)}")]
    for track, name in enumerate(TRACKS, 1):
        events += [_named("thread_name", track, name=name), _named("thread_sort_index", track, sort_index=track)]
    for span in spans(recording):
        place = {"pid": 1, "tid": span.track + 1, "ts": span.start, "dur": round(span.end - span.start, 3)}
        events.append({"name": span.name, "cat": span.kind, "ph": "X", **place, "args": _details(span)})
    content = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"exporter": EXPORTER}}
    return _write(path, content)


def save_speedscope(recording: Recording, path: str | Path) -> Path:
    """See `Recording.save_speedscope`."""
    total = _microseconds(ended(recording, "save_speedscope()"))
    frames: dict[tuple[Any, ...], int] = {}
    profiles = []
    found = spans(recording)
    for track, name in enumerate(TRACKS):
        events = []
        for kind, at, span in _opened_and_closed([span for span in found if span.track == track]):
            frame = frames.setdefault((span.name, *_source(span)), len(frames))
            events.append({"type": kind, "at": at, "frame": frame})
        whole = {"unit": "microseconds", "startValue": 0, "endValue": total}
        profiles.append({"type": "evented", "name": name, **whole, "events": events})
    shared = {"frames": [dict(zip(("name", "file", "line"), frame, strict=False)) for frame in frames]}
    about = {"name": _title(recording), "activeProfileIndex": 0, "exporter": EXPORTER}
    return _write(path, {"$schema": SCHEMA, "shared": shared, "profiles": profiles, **about})


# -------------------------------------------------------------------------------------------------------------- spans
def spans(recording: Recording) -> list[Span]:
    """All that happened, each track in the order of time; what lies within something else comes after it."""
    found = [*_forward(recording), *_backward(recording), *_kernels(recording)]
    return [span for track in range(len(TRACKS)) for span in _nested([s for s in found if s.track == track])]


def _forward(recording: Recording) -> Iterator[Span]:
    for call in recording.calls:
        kind = "module" if isinstance(call.thing, Module) else "op"
        yield _span(0, kind, _label(recording, call), call.start, call.seconds, call.step)


def _backward(recording: Recording) -> Iterator[Span]:
    """Ways back one after the other; calls, in which their steps were made, last as long as they come from there."""
    around: list[tuple[Any, str, float]] = []  # what is open, from the outside in: a pass and calls, since when
    end = 0.0
    for way in recording.ways_back:
        calls = [*way.step.call][::-1] if way.step.call is not None else []
        chain = [(way.run, f"backward {way.run}"), *((call, _label(recording, call)) for call in calls)]
        common = 0
        while common < min(len(chain), len(around)) and chain[common][0] is around[common][0]:
            common += 1
        yield from _closed(around[common:], end)
        around[common:] = [(key, name, way.start) for key, name in chain[common:]]
        yield _span(1, "op", f"{way.step.kind} vjp", way.start, way.seconds, way.step)
        end = way.start + way.seconds
    yield from _closed(around, end)


def _closed(around: list[tuple[Any, str, float]], end: float) -> Iterator[Span]:
    for key, name, start in around:
        kind = "module" if isinstance(key, Call) and isinstance(key.thing, Module) else "op"
        yield _span(1, "pass" if isinstance(key, int) else kind, name, start, end - start)


def _kernels(recording: Recording) -> Iterator[Span]:
    ways, now = recording.ways_back, 0
    for call in recording.kernel_calls:
        while now < len(ways) and ways[now].start + ways[now].seconds <= call.start:
            now += 1
        track = int(now < len(ways) and ways[now].start <= call.start)
        yield _span(track, "kernel", call.name, call.start, call.seconds, call)


def _span(track: int, kind: str, name: str, start: float, seconds: float, about: Any = None) -> Span:
    return Span(track, kind, name, _microseconds(start), _microseconds(start + seconds), about)


def _microseconds(seconds: float) -> float:
    return round(1e6 * seconds, 3)


def _nested(found: list[Span]) -> list[Span]:
    """In the order of time, and none longer than what it lies in: the clock's last digits are not to be trusted."""
    order = {"pass": 0, "module": 1, "op": 2, "kernel": 3}
    result, around = [], []
    for span in sorted(found, key=lambda s: (s.start, -s.end, order[s.kind])):
        while around and around[-1].end <= span.start:
            around.pop()
        if around and span.end > around[-1].end:
            span = span._replace(end=around[-1].end)
        result.append(span)
        around.append(span)
    return result


def _opened_and_closed(found: list[Span]) -> Iterator[tuple[str, float, Span]]:
    """When nested spans open, "O", and close, "C", in order."""
    around: list[Span] = []
    for span in found:
        while around and around[-1].end <= span.start:
            yield "C", around[-1].end, around.pop()
        yield "O", span.start, span
        around.append(span)
    while around:
        yield "C", around[-1].end, around.pop()


# -------------------------------------------------------------------------------------------------------------- words
def _title(recording: Recording) -> str:
    model = "" if recording.model is None else f"{type(recording.model).__name__}, "
    return f"{model}{recording.kernel_set} kernels"


def _label(recording: Recording, call: Call) -> str:
    if not isinstance(call.thing, Module):
        return call.thing.name
    path, kind = recording.path(call.thing), type(call.thing).__name__
    return kind if path in ("", kind) else f"{path} ({kind})"


def _source(span: Span) -> tuple[Any, ...]:
    source = span.about.source if isinstance(span.about, Step) else None
    return () if source is None else (source.file, source.line)


def _details(span: Span) -> dict[str, Any]:
    if isinstance(span.about, KernelCall):
        return {"bytes": span.about.nbytes, "flops": span.about.flops}
    if not isinstance(span.about, Step):
        return {}
    step = span.about
    arguments = {x.name: f"{x.shape} {x.dtype}" for x in step.arguments}
    flops = step.flops if span.track == 0 else step.backward_flops
    numbers = {"bytes": step.nbytes, "kept for the way back": step.saved, "flops": flops}
    settings = {name: str(x) for name, x in step.settings.items()}  # JSON has no infinity
    return {**arguments, "result": f"{step.shape} {step.dtype}", **settings, **numbers, "source": str(step.source)}


def _named(what: str, track: int, **arguments: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": 1, "tid": track, "args": arguments}


def _write(path: str | Path, content: dict[str, Any]) -> Path:
    path = Path(path)
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return path

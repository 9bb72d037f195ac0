"""A picture as JSON, and back: for programs that draw it in their own way."""

from __future__ import annotations

import json
from dataclasses import asdict

from .outline import DrawError
from .picture import Arrow, Box, Frame, Picture

FORMAT = "minigrad.picture/1"


def as_json(picture: Picture) -> str:
    """The picture's fields under their names, `boxes`, `arrows` and `frames` as lists of objects.

    >>> print(as_json(Picture("empty")))
    {
      "format": "minigrad.picture/1",
      "title": "empty",
      "boxes": [],
      "arrows": [],
      "frames": [],
      "legend": []
    }
    """
    return json.dumps({"format": FORMAT, **asdict(picture)}, indent=2, allow_nan=False)


def from_json(text: str) -> Picture:
    """The picture that `as_json` wrote.

    Raises:
        DrawError: if the text is no JSON, or not a picture's.

    >>> from_json(as_json(Picture("empty"))) == Picture("empty")
    True
    """
    try:
        fields = json.loads(text)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        for name, part in (("boxes", Box), ("arrows", Arrow), ("frames", Frame)):
            fields[name] = [part(**each) for each in fields[name]]
        return Picture(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DrawError(
            f"from_json(): this is not a picture in the format {FORMAT!r} ({error}). Give it what as_json() returns."
        ) from error

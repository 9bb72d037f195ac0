"""Lessons: the engine (a), the nineteen questions (q), and what they are good for together (c)."""

"""What the reader writes: a function or two for each lesson."""

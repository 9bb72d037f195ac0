"""What answers to the exercises are held to: properties, with fresh random numbers each time."""


def locked(*arrays):
    """The arrays as a list, read-only from now on: an answer that changes what it was given is stopped by NumPy."""
    for array in arrays:
        array.setflags(write=False)
    return list(arrays)

"""What answers to the exercises are held to: properties, with fresh random numbers each time."""

"""What the reader writes: a function or two for each lesson. None of them changes the arrays that it is given."""

"""Question 5: a softmax that no padding gets through, and a loss that does not count it."""

import numpy as np


def masked_softmax(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """From scores (..., S) to weights (..., S), in the precision of the scores.

    mask: boolean (..., S), True = may attend. What is masked has weight 0, whatever its score is (it is finite), and a
    row in which everything is masked is 0.
    """
    raise NotImplementedError


def masked_loss(log_p: np.ndarray, labels: np.ndarray, pad_id: int) -> float:
    """The mean of -log_p[b, t, labels[b, t]] over all places whose label is not `pad_id`; 0 if there is none.

    Shapes: log_p (B, T, V), labels (B, T).
    """
    raise NotImplementedError

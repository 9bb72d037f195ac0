"""Exercise c01: which heads matter, without taking any away.

A gate xi_h in front of each head, z_h -> xi_h z_h, would say how much of it goes on; in the real model all gates are 1.
The slope of a loss L by such a gate tells, to first order, what happens when it is closed. No gate has to be built: by
the chain rule the slope is the product <z_h, dL/dz_h>, summed over all entries of z_h.
"""


def importance(model, loss):
    """How much every head matters: I_h = the sum over the sentences of a batch of |<z_h, dL/dz_h>|.

    model: a module with attentions (`mt.MultiHeadAttention`), each with a tap "z" of shape (B, H, T, K); loss: a
    function that runs the model on one batch and returns L. Return a dict from the names of the heads, as
    lens.head_names(model) has them ("decoder.layers.1.cross_attn.0"), to numbers. Use no function of lens that does
    it all. Hint: nn.capture(model, "*.z", grad=True) keeps each z, and after backward() its gradient.
    """
    raise NotImplementedError

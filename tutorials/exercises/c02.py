"""Exercise c02: the sixth patient, who answers the same question twice, and differently.

A Transformer in evaluation mode should be a function: the same tokens, the same logits, to the last bit. In the sixth
patient somebody wrote `dropout(x, 0.2)` and forgot that it must be told when the training is over. From there on all
numbers are random. Find the module in which it begins, without reading code.
"""


def guilty(model, source, target):
    """The path of the module in which two runs of model(source, target) first differ, or None if they do not.

    model: a Transformer, a module; source: tokens (B, S); target: tokens (B, T). A path is that of
    model.named_modules(), such as "encoder.layers.1.ffn". The modes of the modules stay as they are. One bit of one
    number is a difference.
    """
    raise NotImplementedError

"""Pictures for the tests of what draws them."""

from hypothesis import strategies as st

from minigrad.draw.picture import KINDS, Arrow, Box, Frame, Picture


def encoder_decoder(n: int = 6, frames: bool = True) -> Picture:
    """An encoder-decoder of N layers at the level of its sublayers: 5 N + 9 boxes."""
    p = Picture(f"Transformer, N = {n}", legend=["data | grad: norms", "width: norm of the gradient on the arrow"])

    def box(key, title, kind, inside, *tails, shares=(), **more):
        p.boxes.append(Box(key, title, kind, inside=inside if frames else None, **more))
        for tail, share in zip(tails, shares or [""] * len(tails), strict=True):
            p.arrows.append(Arrow(tail, key, label=share, width=1 + 2 * float(share or 0), note=f"{tail} -> {key}"))
        return key

    def numbers(i):
        return [f"{12 + i}.{i}13 | {0.9**i:.3f}"]

    if frames:
        p.frames += [Frame("encoder", "encoder: Encoder"), Frame("decoder", "decoder: Decoder")]
    sources = box("src", "src", "input", None, lines=["int64 (64, 24)"])
    x = box("src_embed", "src_embed", "module", None, sources, lines=numbers(1), note="Embedding, 8,000 x 512")
    for i in range(n):
        layer = f"encoder.layers.{i}"
        if frames:
            p.frames.append(Frame(layer, f"layers.{i}: EncoderLayer", inside="encoder"))
        x = box(f"{layer}.self_attn", "self_attn", "module", layer, x, lines=numbers(i), shares=["0.61"])
        x = box(f"{layer}.ffn", "ffn", "module", layer, x, lines=numbers(i), shares=["0.93"])
    memory = x
    targets = box("tgt", "tgt", "input", None, lines=["int64 (64, 21)"])
    y = box("tgt_embed", "tgt_embed", "module", None, targets, lines=numbers(2))
    for i in range(n):
        layer = f"decoder.layers.{i}"
        if frames:
            p.frames.append(Frame(layer, f"layers.{i}: DecoderLayer", inside="decoder"))
        y = box(f"{layer}.self_attn", "self_attn", "module", layer, y, lines=numbers(i), shares=["0.55"])
        y = box(f"{layer}.cross_attn", "cross_attn", "module", layer, y, memory, lines=numbers(i), shares=["0.7", ""])
        y = box(f"{layer}.ffn", "ffn", "module", layer, y, lines=numbers(i), shares=["0.88"])
    weight = box("generator.weight", "generator.weight", "parameter", None, lines=["8000 x 512 | 0.021"])
    logits = box("generator", "generator", "module", None, y, weight, lines=numbers(3), shares=["1.0", ""])
    labels = box("labels", "labels", "constant", None, lines=["int64 (64, 21)"])
    loss = box("loss", "cross_entropy", "op", None, logits, labels, lines=["9.01 | 1"])
    box("out", "loss", "output", None, loss, lines=["9.01 | 1"])
    return p


def everything() -> Picture:
    """One of each kind, status and style."""
    p = Picture("Kinds & statuses", legend=["one of each"])
    p.frames = [Frame("kinds", "kinds"), Frame("statuses", "statuses", highlighted=True), Frame("in", "in", "statuses")]
    p.boxes = [
        Box(kind, kind, kind, ["1.25 | 0.5"], inside="kinds", note=f"this is {kind}")
        for kind in ("input", "parameter", "constant", "module", "op", "more", "output")
    ]
    p.boxes += [
        Box(status, "matmul", "op", ["3.1 | "], inside="in" if "comp" in status else "statuses", status=status)
        for status in ("zero", "not reached", "not computed", "not recorded")
    ]
    p.boxes += [
        Box("dark", "dark", fill="#0072b2", lines=["white on blue"]),
        Box("lit", "highlighted", highlighted=True, lines=["1 | 2", "3 | 4"]),
        Box("bare", "", "op"),
    ]
    p.arrows = [
        Arrow("input", "module", "x: (2, 3)", width=4, colour="#d55e00"),
        Arrow("parameter", "module", "weight"),
        Arrow("constant", "op", style="dashed"),
        Arrow("module", "op", "0.73", highlighted=True),
        Arrow("op", "output"),
        Arrow("more", "op", style="dotted"),
        Arrow("zero", "not reached"),
        Arrow("not computed", "not recorded"),
        Arrow("output", "dark"),
        Arrow("dark", "lit"),
        Arrow("lit", "bare", "a"),
        Arrow("lit", "bare", "b"),
    ]
    return p


def tape(layers: int, width: int = 4, frames: bool = True) -> Picture:
    """A tape of residual layers, about `10 * layers` boxes."""
    p = Picture("tape")
    x = "x"
    p.boxes.append(Box("x", "x", "input"))
    for i in range(layers):
        if frames:
            p.frames.append(Frame(f"layer{i}", f"layers.{i}"))
        tail = x
        for j in range(8):
            key = f"{i}.{j}"
            p.boxes.append(Box(key, "matmul", lines=["1.2 | 3.4"], inside=f"layer{i}" if frames else None))
            p.arrows.append(Arrow(tail, key))
            tail = key
            if j % 4 == 0:
                p.boxes.append(Box(f"{key}.w", "weight", "parameter", inside=f"layer{i}" if frames else None))
                p.arrows.append(Arrow(f"{key}.w", key))
        p.arrows.append(Arrow(x, tail))
        x = tail
    return p


def op_level(n: int = 6) -> Picture:
    """An encoder-decoder of N layers at the level of its ops, layer norm opened: for N = 6 about 1,100 boxes."""
    p = Picture("Transformer, ops")

    def frame(key):
        p.frames.append(Frame(key, key.rpartition(".")[2], inside=key.rpartition(".")[0] or None))
        return key

    def op(inside, title, *tails, kind="op"):
        key = f"{inside}.{title}.{len(p.boxes)}"
        p.boxes.append(Box(key, title, kind, ["1.23 | 0.045"], inside=inside or None))
        p.arrows += [Arrow(tail, key, width=1.5) for tail in tails]
        return key

    def linear(inside, name, x):
        f = frame(f"{inside}.{name}")
        return op(f, "add", op(f, "matmul", x, op(f, "weight", kind="parameter")), op(f, "bias", kind="parameter"))

    def add_norm(inside, name, x, y):
        f = frame(f"{inside}.{name}")
        x = op(f, "add", x, y)
        centred = op(f, "sub", x, op(f, "mean", x))
        std = op(f, "sqrt", op(f, "add", op(f, "mean", op(f, "mul", centred, centred))))
        scaled = op(f, "mul", op(f, "div", centred, std), op(f, "weight", kind="parameter"))
        return op(f, "add", scaled, op(f, "bias", kind="parameter"))

    def attention(inside, name, x, memory):
        f = frame(f"{inside}.{name}")
        q, k, v = linear(f, "q", x), linear(f, "k", memory), linear(f, "v", memory)
        scores = op(f, "masked_fill", op(f, "mul", op(f, "matmul", q, k)), op(f, "mask", kind="constant"))
        return linear(f, "out", op(f, "matmul", op(f, "dropout", op(f, "softmax", scores)), v))

    def ffn(inside, x):
        f = frame(f"{inside}.ffn")
        return linear(f, "w2", op(f, "relu", linear(f, "w1", x)))

    def embed(name):
        f = frame(name)
        return op(f, "add", op(f, "embedding", op(f, "tokens", kind="input"), op(f, "weight", kind="parameter")))

    x = embed("src_embed")
    frame("encoder")
    for i in range(n):
        f = frame(f"encoder.layers{i}")
        x = add_norm(f, "norm1", x, attention(f, "self_attn", x, x))
        x = add_norm(f, "norm2", x, ffn(f, x))
    memory, x = x, embed("tgt_embed")
    frame("decoder")
    for i in range(n):
        f = frame(f"decoder.layers{i}")
        x = add_norm(f, "norm1", x, attention(f, "self_attn", x, x))
        x = add_norm(f, "norm2", x, attention(f, "cross_attn", x, memory))
        x = add_norm(f, "norm3", x, ffn(f, x))
    op("", "loss", op("", "cross_entropy", linear(frame("head"), "generator", x)), kind="output")
    return p


def layers(n: int = 6) -> Picture:
    """The same at the level of its layers: an encoder and a decoder of N boxes."""
    p = Picture("layers", frames=[Frame("encoder", "encoder"), Frame("decoder", "decoder")])
    p.boxes = [Box("src", "src", "input"), Box("tgt", "tgt", "input")]
    for stack, x in (("encoder", "src"), ("decoder", "tgt")):
        for i in range(n):
            key = f"{stack}.{i}"
            p.boxes.append(Box(key, f"layers.{i}", "module", inside=stack))
            p.arrows += [Arrow(x, key), *([Arrow(f"encoder.{n - 1}", key)] if stack == "decoder" else [])]
            x = key
    return p


def any_picture(text: st.SearchStrategy[str]) -> st.SearchStrategy[Picture]:
    """Up to 30 boxes in up to 6 frames, with this kind of text in all places; arrows go anywhere."""

    @st.composite
    def build(draw: st.DrawFn) -> Picture:
        frames = draw(st.integers(0, 6))
        boxes = draw(st.integers(0, 30))
        colour = st.none() | st.from_regex("#[0-9a-f]{6}", fullmatch=True)
        p = Picture(draw(text), legend=draw(st.lists(text, max_size=2)))
        for i in range(frames):
            inside = draw(st.none() | st.sampled_from(range(i))) if i else None
            p.frames.append(Frame(f"f{i}", draw(text), None if inside is None else f"f{inside}", draw(text)))
        for i in range(boxes):
            lines, kind = draw(st.lists(text, max_size=2)), draw(st.sampled_from(KINDS))
            inside = draw(st.none() | st.integers(0, frames - 1).map("f{}".format)) if frames else None
            status = draw(st.sampled_from(["", "zero", "not reached", "not computed", "not recorded"]))
            p.boxes.append(
                Box(f"b{i}", draw(text), kind, lines, inside, draw(colour), draw(text), status, draw(st.booleans()))
            )
        for _ in range(draw(st.integers(0, 2 * boxes)) if boxes else 0):
            tail, head = (draw(st.integers(0, boxes - 1)) for _ in range(2))
            if draw(st.integers(0, 9)):  # one in ten may go back
                tail, head = min(tail, head), max(tail, head)
            width, style = draw(st.floats(0, 10)), draw(st.sampled_from(["solid", "dashed", "dotted"]))
            p.arrows.append(
                Arrow(f"b{tail}", f"b{head}", draw(text), width, draw(colour), style, draw(text), draw(st.booleans()))
            )
        return p

    return build()

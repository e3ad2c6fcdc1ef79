"""What the properties of `test_properties.py` draw: inputs that are right, nearly right, and nothing of the kind."""

import math

import torch
from hypothesis import strategies as st
from PIL import Image

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool]
NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([0, -1, 10**6, 2**31, 2**63, -(2**63), 10**30]),
    st.floats(), st.sampled_from([0.0, -0.0, 1e-30, 1e30, math.nan, math.inf]),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | st.sampled_from(["both", "layer2", "test_resnet"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
WORDS = st.one_of(
    st.text(max_size=8), st.integers().map(str), st.floats().map(str),
    st.sampled_from(["", "-", "--", "-1", "nan", "1e9", "./nowhere", "None", "a b", "\x00", "é", "-h", "--=1"]),
)  # fmt: skip


@st.composite
def tensors(draw, like=(2, 3, 32, 32)):
    """Tensors of the right shape or nearly, of any type, some with values that are none."""
    shape = list(like)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        change = draw(st.sampled_from(["size", "drop", "add", "empty"]))
        if change == "size" and shape:
            shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 40))
        if change == "drop" and shape:
            shape.pop()
        if change == "add":
            shape.insert(0, draw(st.integers(0, 2)))
        if change == "empty" and shape:
            shape[0] = 0
    dtype = draw(st.sampled_from([torch.float32] * 4 + DTYPES))
    torch.manual_seed(draw(st.integers(0, 3)))
    values = (torch.randn(shape) * draw(st.sampled_from([0.0, 1.0, 1.0, 100.0, 1e30]))).to(dtype)
    if values.numel() and draw(st.integers(0, 4)) == 0:
        values.view(-1)[0] = draw(
            st.sampled_from([0.0, 1.0] if not dtype.is_floating_point else [math.nan, -math.inf])
        )
    return values


@st.composite
def pictures(draw):
    """PIL images of any mode and odd sizes."""
    mode = draw(st.sampled_from(["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "LAB"]))
    size = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)) | st.sampled_from([(1, 3000), (3000, 40), (1, 1)]))
    return Image.new(mode, size, draw(st.sampled_from([0, 0, 1, 100])) if mode not in ("LAB", "HSV") else 0)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """A file's content, cut off or with some other bytes."""
    if draw(st.booleans()):
        content = content[: draw(st.integers(0, len(content)))]
    edited = bytearray(content)
    for _ in range(draw(st.integers(0, 6))):
        if edited:
            edited[draw(st.integers(0, len(edited) - 1))] = draw(st.integers(0, 255))
    return bytes(edited)

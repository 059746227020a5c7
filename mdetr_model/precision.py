"""The precision of matrix products and convolutions on a GPU, as configurations name it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

#: "tf32" rounds the factors of products to 10 bits of mantissa, on GPUs that have it; nothing else
#: changes. Of the two 16-bit types, which are computed under autocast, bfloat16 has 7 bits.
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Returns the context in which a forward pass has a precision."""
    dtype = AUTOCAST_DTYPES.get(precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


@contextmanager
def tf32(precision: Precision) -> Iterator[None]:
    """Allows TF32 inside the block if the precision is "tf32", and only then.

    torch's own default is TF32 for convolutions and float32 for products.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before

"""Arrays as short text: 16 bits a number, differences from row to row, deflate, base64.

packed = pack(states)         # (F, D) -> PackedArray, off by at most 1 / 131,070 of its range
states = unpack(packed)       # (F, D) float64; report/player.js has the same in a browser
"""

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

from autorl.records import PackedArray

LEVELS = 65_535


def pack(numbers: NDArray[np.float64]) -> PackedArray:
    """Pack numbers (F, D); what is not finite becomes the nearest finite number, NaN 0."""
    numbers = np.nan_to_num(numbers, posinf=1e9, neginf=-1e9)
    low, span = numbers.min(0), np.ptp(numbers, 0)
    levels = np.rint((numbers - low) / np.where(span > 0, span, 1) * LEVELS).astype(np.uint16)
    first = np.zeros((1, numbers.shape[1]), np.uint16)
    differences = np.diff(levels, axis=0, prepend=first)  # (F, D) modulo 2^16
    # column by column, low bytes apart from high ones: neighbours are alike, so it deflates well
    planes = differences.T.astype("<u2").reshape(-1, 1).view(np.uint8).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return PackedArray(tuple(low.tolist()), tuple(span.tolist()), data)


def unpack(packed: PackedArray) -> NDArray[np.float64]:
    """The numbers (F, D).

    Raises:
        ValueError: damaged data.
    """
    try:
        planes = np.frombuffer(zlib.decompress(base64.b64decode(packed.data)), np.uint8)
        columns = planes.reshape(2, len(packed.low), -1).astype(np.uint16)
    except zlib.error as error:
        raise ValueError(f"the packed numbers are damaged ({error})") from None
    levels = np.cumsum(columns[0] | columns[1] << 8, axis=1, dtype=np.uint16).T
    numbers: NDArray[np.float64] = np.array(packed.low) + levels / LEVELS * np.array(packed.span)
    return numbers

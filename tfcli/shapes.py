"""Types for tensor shapes, and the letters of their axes.

    B batch    N query tokens    M key tokens    D width    H heads    E width of a head (D / H)
    A axes of coordinates    K classes    L layers    P patch side    T frames    Y X rows, columns    C channels
    V vocabulary

Tensors are batch first: `(B, N, D)`, heads `(B, H, N, E)`, images `(B, C, Y, X)`.
The tests install jaxtyping and check every annotation at run time; without it the annotations are plain tensor types.
"""

from __future__ import annotations

try:
    from jaxtyping import Bool, Float, Int, Num, UInt8
except ImportError:

    class _Plain:
        def __class_getitem__(cls, item):
            return item[0]

    Bool = Float = Int = Num = UInt8 = _Plain  # type: ignore[assignment,misc]  # stands in for classes that are not here

__all__ = ["Bool", "Float", "Int", "Num", "UInt8"]

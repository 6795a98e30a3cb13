"""Checks of what the library's classes and functions are given, and the names that their errors use.

``arguments``: arguments of constructors; a ``ValueError``. ``shapes``: shapes, dtypes and devices of input tensors,
without reading a value; a ``ShapeError``. ``values``: values and gradients of input tensors, and batch norm's state; a
``ShapeError``, a ``NotFiniteError`` or a ``DeadTermWarning``.
"""

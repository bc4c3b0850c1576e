"""Calls every kernel of the device with arguments that no one would think of: nothing may die, hang or panic.

Calls that PyTorch's database of ops makes of the device are the start; their arguments are then exchanged: left
out, undefined, of other shapes, dtypes and devices, lists too short and too long, numbers negative and huge. They
run in worker processes with little memory to spare; each call is written down before it is made, so that one that
kills its process is known.
"""

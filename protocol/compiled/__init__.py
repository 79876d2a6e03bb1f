"""Compiled inner loops, fenced off: optional, to the same bits, and the only part with a cache.

`kernels` holds the loops, `warm_up` compiles and measures them beforehand, `record` keeps what was
measured. Nothing outside imports them but `protocol.speed`, the switch.
"""

"""Optimizer steps for the CPU, compiled by numba: one pass over gradient and state, in tiles that stay in its caches.

Each function takes one span of the flat parameters (one public block) and writes the next state, the hints, the
gradient as integers and the float image of the weights. The results are those of the statements' own ``advance``, bit
for bit, wherever the step stays in the table; an element that leaves it is counted, and the caller then asks
``advance``. Only numpy arrays come and go.

Not for secrets that share a machine with their thief: the code has no branch and no address that depends on data, but
division and square root of a CPU may take longer for some operands than for others (docs/gpu.md).
"""

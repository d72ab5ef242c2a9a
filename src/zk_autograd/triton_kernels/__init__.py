"""Optimizer steps for GPUs, in Triton: one pass over gradient and state, in constant time.

Each kernel takes one span of the flat parameters (one public block) and writes the next state, the hints, the gradient
as integers and the float image of the weights. The results are those of the statements' own ``advance``, bit for bit,
wherever the step stays in the table; elements that leave it are counted, and the caller then asks ``advance``.

Shape and time do not depend on data: fixed blocks, the last one masked, no branch and no loop over data, no call into a
subroutine. Tests read the machine code of every kernel for that. ``TRITON_INTERPRET=1``, set before Triton is imported,
runs the same source on a CPU.
"""

LARGEST_TABLE = 1 << 22
"""Tables are smaller: the kernels' products then stay within 64 bits, and square roots below ``2**22``."""

BLOCK = 1024
"""Elements that one program of a kernel takes."""

COUNTS = 4
"""What a program counts: elements clipped, that became zero, that are not decided, and the largest gradient's bits."""

SUMS = 2
"""The sums of squares that a program makes: of gradients, and of what their integers lack."""

"""Device rules: what real PyTorch does when the operands of an op lie on different devices.

A CUDA build of PyTorch has no single answer to that.  It has four, and a handful of exceptions:

1. **Compared in the wrapper** (`checked`).  The generated wrapper of most kernels wants every
   tensor on one device, CPU scalars included.
2. **Compared by TensorIterator** (`iterator`).  Elementwise ops want one device, and take one CPU
   tensor without dimensions as a number.
3. **Compared by the op in its own words** (`indexing`, `attention`, `worded`).
4. **Not compared** (`crossing`).  Copies, and ops that read sizes or single numbers.

Which op belongs where is generated for 1 from the declarations that torch ships
(``tools/native_rules.py`` ->
``native.json``) and written down for the others in `table`.  What is in neither falls to the
default, and its mismatches say so (`Mismatch.assumed`).

`judge_op` is asked for every op of a run; labels (`devplan.virtual.labels`) say where tensors lie.
The texts are those of torch 2.13.  Up to 2.7 (at least) the comparison in the wrapper printed
``found at least two devices, A and B! (when checking argument for argument X in method M)``.

Limits: generators and storages have no label and are not judged; the lists of a ``_foreach_`` op
may lie on several devices, of which a verdict names the first.
"""

from devplan.virtual.rules.plan import (
    decomposes,
    device_rule_of,
    has_no_rule,
    judge_function,
    judge_op,
)
from devplan.virtual.rules.rule import Mismatch, Operand, Verdict

__all__ = [
    "Mismatch",
    "Operand",
    "Verdict",
    "decomposes",
    "device_rule_of",
    "has_no_rule",
    "judge_function",
    "judge_op",
]

"""Example inputs: what a model's own code is given when it is run virtually.

From the processor in the model's folder where there is one, else from the signature of
``forward``, the configuration and the weights; a function of the user's is the way out.
"""

from __future__ import annotations

from devplan.inputs.example import example_inputs
from devplan.inputs.request import ExampleInputs, InputRequest
from devplan.inputs.user import user_function, user_inputs
from devplan.virtual.inputs import NoExampleInputs

__all__ = [
    "ExampleInputs",
    "InputRequest",
    "NoExampleInputs",
    "example_inputs",
    "user_function",
    "user_inputs",
]

"""A package whose name begins like a trusted one."""

from canary import plant as Model  # noqa: F401
from canary import plant as Scheduler  # noqa: F401

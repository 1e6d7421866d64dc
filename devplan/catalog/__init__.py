"""Facts with their sources: models (``entries/``), GPUs and links.

May import ``core`` and ``io``.
"""

from devplan.catalog import gpus, links, models
from devplan.catalog.gpus import (
    Gpu,
)
from devplan.catalog.links import (
    LinkKind,
)
from devplan.catalog.models import (
    CatalogModel,
    TensorSummary,
    load_models,
)

__all__ = [
    "CatalogModel",
    "Gpu",
    "LinkKind",
    "TensorSummary",
    "gpus",
    "links",
    "load_models",
    "models",
]

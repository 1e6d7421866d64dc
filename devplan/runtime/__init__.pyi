# What other subpackages may import from here; each name is loaded when it is first asked for.
from .advice import (
    PatchAdvice as PatchAdvice,
)
from .advice import (
    advise as advise,
)
from .advice import (
    needed_patch as needed_patch,
)
from .caching import (
    TransferCache as TransferCache,
)
from .caching import (
    cache_transfers as cache_transfers,
)
from .caching import (
    transfer_cache_of as transfer_cache_of,
)
from .patching import (
    PatchedEmbedding as PatchedEmbedding,
)
from .patching import (
    patch_embeddings as patch_embeddings,
)
from .patching import (
    unpatch_embeddings as unpatch_embeddings,
)

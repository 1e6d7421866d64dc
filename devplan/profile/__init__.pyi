# What other subpackages may import from here; each name is loaded when it is first asked for.
from .activations import (
    joined_activations as joined_activations,
)
from .activations import (
    measure_activations as measure_activations,
)
from .activations import (
    most_needed as most_needed,
)
from .activations import (
    rising as rising,
)
from .cache import (
    cache_notes as cache_notes,
)
from .graph import (
    build_graph as build_graph,
)
from .model import (
    ActivationProfile as ActivationProfile,
)
from .model import (
    Profile as Profile,
)
from .model import (
    WeightProfile as WeightProfile,
)
from .profiling import (
    block_of as block_of,
)
from .profiling import (
    measure_weights as measure_weights,
)
from .profiling import (
    profile_skeleton as profile_skeleton,
)
from .profiling import (
    sizes_in_memory as sizes_in_memory,
)
from .profiling import (
    weights_on_cards as weights_on_cards,
)
from .variants import (
    QUANTIZED_BITS as QUANTIZED_BITS,
)
from .variants import (
    can_be_quantized as can_be_quantized,
)
from .variants import (
    how_to_load as how_to_load,
)
from .variants import (
    quantize_word as quantize_word,
)
from .variants import (
    quantized_profile as quantized_profile,
)
from .variants import (
    quantized_source as quantized_source,
)
from .work import (
    measure_work as measure_work,
)

# What other subpackages may import from here; each name is loaded when it is first asked for.
from . import limited as limited
from .calls import (
    DECODE_STEPS as DECODE_STEPS,
)
from .calls import (
    ENTRIES as ENTRIES,
)
from .calls import (
    ForwardCall as ForwardCall,
)
from .calls import (
    GenerateCall as GenerateCall,
)
from .calls import (
    ModelCall as ModelCall,
)
from .calls import (
    PartCall as PartCall,
)
from .calls import (
    PipelineCall as PipelineCall,
)
from .calls import (
    UserCall as UserCall,
)
from .calls import (
    can_generate as can_generate,
)
from .calls import (
    entered_part as entered_part,
)
from .calls import (
    has_forward as has_forward,
)
from .calls import (
    other_ways_in as other_ways_in,
)
from .calls import (
    steps_asked_for as steps_asked_for,
)
from .calls import (
    usual_call as usual_call,
)
from .folding import (
    Outcome as Outcome,
)
from .folding import (
    extrapolate as extrapolate,
)
from .folding import (
    layer_kinds as layer_kinds,
)
from .hooks import (
    OffloadedTensors as OffloadedTensors,
)
from .hooks import (
    align_hooks as align_hooks,
)
from .hooks import (
    device_text as device_text,
)
from .hooks import (
    files_have_moved as files_have_moved,
)
from .hooks import (
    forget_hook as forget_hook,
)
from .hooks import (
    hook_device as hook_device,
)
from .hooks import (
    hook_devices as hook_devices,
)
from .hooks import (
    idle_hook as idle_hook,
)
from .hooks import (
    input_device as input_device,
)
from .hooks import (
    is_dispatched as is_dispatched,
)
from .hooks import (
    offloaded_weights as offloaded_weights,
)
from .hooks import (
    offloaded_weights_of as offloaded_weights_of,
)
from .hooks import (
    own_hook as own_hook,
)
from .hooks import (
    places_all_inside as places_all_inside,
)
from .hooks import (
    remove_hooks as remove_hooks,
)
from .hooks import (
    storage_of as storage_of,
)
from .labels import (
    CPU as CPU,
)
from .labels import (
    label_of as label_of,
)
from .labels import (
    maker_of as maker_of,
)
from .labels import (
    mark as mark,
)
from .labels import (
    plain_tensors as plain_tensors,
)
from .labels import (
    sources_of as sources_of,
)
from .limited import (
    TooManyOps as TooManyOps,
)
from .memory import (
    BETWEEN as BETWEEN,
)
from .memory import (
    cache_places as cache_places,
)
from .observing import (
    Observer as Observer,
)
from .patches import (
    VirtualCard as VirtualCard,
)
from .patches import (
    cards_by_number as cards_by_number,
)
from .patches import (
    quiet as quiet,
)
from .placing import (
    loads_without_hooks as loads_without_hooks,
)
from .placing import (
    skipped_keys as skipped_keys,
)
from .placing import (
    spelled_out_map as spelled_out_map,
)
from .rules.plan import (
    native_facts as native_facts,
)
from .run import (
    ONE_CARD as ONE_CARD,
)
from .run import (
    Dispatched as Dispatched,
)
from .run import (
    OneCard as OneCard,
)
from .run import (
    Run as Run,
)
from .run import (
    SplitModel as SplitModel,
)
from .run import (
    dispatched as dispatched,
)
from .run import (
    on_one_card as on_one_card,
)
from .run import (
    run_split as run_split,
)
from .source_lines import (
    carries as carries,
)
from .source_lines import (
    is_model_code as is_model_code,
)
from .source_lines import (
    shown_path as shown_path,
)
from .tracing import (
    Trace as Trace,
)

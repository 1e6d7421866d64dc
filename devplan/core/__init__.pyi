# What other subpackages may import from here; each name is loaded when it is first asked for.
from .arguments import (
    NamedInFile as NamedInFile,
)
from .arguments import (
    Reader as Reader,
)
from .arguments import (
    accepts as accepts,
)
from .arguments import (
    described as described,
)
from .arguments import (
    flag as flag,
)
from .arguments import (
    function as function,
)
from .arguments import (
    mapping as mapping,
)
from .arguments import (
    model_name as model_name,
)
from .arguments import (
    of_class as of_class,
)
from .arguments import (
    one_of as one_of,
)
from .arguments import (
    optional as optional,
)
from .arguments import (
    path as path,
)
from .arguments import (
    text as text,
)
from .arguments import (
    texts as texts,
)
from .arguments import (
    user_function as user_function,
)
from .arguments import (
    whole_number as whole_number,
)
from .arguments import (
    wrong as wrong,
)
from .costs import (
    DECODE as DECODE,
)
from .costs import (
    PREFILL as PREFILL,
)
from .costs import (
    STEPS as STEPS,
)
from .costs import (
    WHOLE_RUN as WHOLE_RUN,
)
from .costs import (
    CardTime as CardTime,
)
from .costs import (
    Link as Link,
)
from .costs import (
    Route as Route,
)
from .costs import (
    StepWork as StepWork,
)
from .costs import (
    Timing as Timing,
)
from .costs import (
    Traffic as Traffic,
)
from .costs import (
    Work as Work,
)
from .costs import (
    num_decode_steps as num_decode_steps,
)
from .device_map import (
    DeviceMap as DeviceMap,
)
from .device_map import (
    Entry as Entry,
)
from .device_map import (
    device_map_of as device_map_of,
)
from .device_map import (
    read_entry as read_entry,
)
from .device_map import (
    refuse_no_map as refuse_no_map,
)
from .devices import (
    DEVICE_PATTERN as DEVICE_PATTERN,
)
from .devices import (
    INDEXED_KINDS as INDEXED_KINDS,
)
from .devices import (
    MAX_INDEX as MAX_INDEX,
)
from .devices import (
    chosen_by_accelerate as chosen_by_accelerate,
)
from .devices import (
    from_hf_device as from_hf_device,
)
from .devices import (
    from_hf_device_map as from_hf_device_map,
)
from .devices import (
    main_device_notes as main_device_notes,
)
from .devices import (
    normalise_device as normalise_device,
)
from .devices import (
    order_entries as order_entries,
)
from .devices import (
    read_device as read_device,
)
from .devices import (
    read_pins as read_pins,
)
from .devices import (
    to_hf_device as to_hf_device,
)
from .devices import (
    to_hf_device_map as to_hf_device_map,
)
from .dtypes import (
    COMPUTE_DTYPES as COMPUTE_DTYPES,
)
from .dtypes import (
    STORED_DTYPES as STORED_DTYPES,
)
from .dtypes import (
    compute_dtype_name as compute_dtype_name,
)
from .dtypes import (
    dtype_bytes as dtype_bytes,
)
from .dtypes import (
    dtype_name as dtype_name,
)
from .dtypes import (
    full_dtype_name as full_dtype_name,
)
from .dtypes import (
    parse_dtype as parse_dtype,
)
from .dtypes import (
    stored_float as stored_float,
)
from .environment import (
    CardUse as CardUse,
)
from .environment import (
    DriverCard as DriverCard,
)
from .environment import (
    Environment as Environment,
)
from .environment import (
    FoundCard as FoundCard,
)
from .environment import (
    Lock as Lock,
)
from .environment import (
    LockedCard as LockedCard,
)
from .environment import (
    ModelFacts as ModelFacts,
)
from .errors import (
    DeviceMapError as DeviceMapError,
)
from .errors import (
    DevplanError as DevplanError,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    InternalError as InternalError,
)
from .errors import (
    UserCodeError as UserCodeError,
)
from .errors import (
    VerificationError as VerificationError,
)
from .errors import (
    ensure as ensure,
)
from .errors import (
    named_line as named_line,
)
from .errors import (
    nearest as nearest,
)
from .errors import (
    one_line as one_line,
)
from .findings import (
    DISPATCH as DISPATCH,
)
from .findings import (
    BlockActivation as BlockActivation,
)
from .findings import (
    BlockInput as BlockInput,
)
from .findings import (
    CheckResult as CheckResult,
)
from .findings import (
    DevicePeak as DevicePeak,
)
from .findings import (
    DeviceUsage as DeviceUsage,
)
from .findings import (
    Finding as Finding,
)
from .findings import (
    Fix as Fix,
)
from .findings import (
    MadeUpValue as MadeUpValue,
)
from .findings import (
    MismatchEvent as MismatchEvent,
)
from .findings import (
    MissedRun as MissedRun,
)
from .findings import (
    ModelError as ModelError,
)
from .findings import (
    OperandFact as OperandFact,
)
from .findings import (
    RunRecord as RunRecord,
)
from .findings import (
    Severity as Severity,
)
from .findings import (
    SourceLine as SourceLine,
)
from .findings import (
    TransferEvent as TransferEvent,
)
from .names import (
    component_main as component_main,
)
from .names import (
    find_entry as find_entry,
)
from .names import (
    is_inside as is_inside,
)
from .names import (
    is_one_device as is_one_device,
)
from .names import (
    joined as joined,
)
from .names import (
    parent as parent,
)
from .names import (
    part_of_map as part_of_map,
)
from .names import (
    prefixes as prefixes,
)
from .names import (
    relative as relative,
)
from .quantize import (
    quantize_config as quantize_config,
)
from .quantize import (
    quantize_label as quantize_label,
)
from .quantize import (
    read_quantize as read_quantize,
)
from .types import (
    CPU as CPU,
)
from .types import (
    DISK as DISK,
)
from .types import (
    OFFLOAD_DEVICES as OFFLOAD_DEVICES,
)
from .types import (
    ActivationGrowth as ActivationGrowth,
)
from .types import (
    Block as Block,
)
from .types import (
    BlockGraph as BlockGraph,
)
from .types import (
    CacheGrowth as CacheGrowth,
)
from .types import (
    Card as Card,
)
from .types import (
    Certificate as Certificate,
)
from .types import (
    Constraint as Constraint,
)
from .types import (
    DeviceMapFile as DeviceMapFile,
)
from .types import (
    DeviceMemory as DeviceMemory,
)
from .types import (
    Infeasible as Infeasible,
)
from .types import (
    Machine as Machine,
)
from .types import (
    ModelIdentity as ModelIdentity,
)
from .types import (
    OffloadTier as OffloadTier,
)
from .types import (
    Pin as Pin,
)
from .types import (
    Placement as Placement,
)
from .types import (
    Plan as Plan,
)
from .types import (
    Relaxation as Relaxation,
)
from .types import (
    Remedy as Remedy,
)
from .types import (
    SharedCopies as SharedCopies,
)
from .types import (
    SharedInput as SharedInput,
)
from .types import (
    Stage as Stage,
)
from .types import (
    Transfer as Transfer,
)
from .types import (
    Verification as Verification,
)
from .units import (
    GIB as GIB,
)
from .units import (
    MIB as MIB,
)
from .units import (
    TIB as TIB,
)
from .units import (
    format_bytes as format_bytes,
)
from .units import (
    format_gib as format_gib,
)
from .units import (
    is_size as is_size,
)
from .units import (
    parse_bytes as parse_bytes,
)
from .units import (
    parse_tokens as parse_tokens,
)
from .units import (
    parse_whole as parse_whole,
)
from .workload import (
    DEFAULT_CONTEXT as DEFAULT_CONTEXT,
)
from .workload import (
    LARGEST_BATCH as LARGEST_BATCH,
)
from .workload import (
    LARGEST_CONTEXT as LARGEST_CONTEXT,
)
from .workload import (
    LARGEST_FRAMES as LARGEST_FRAMES,
)
from .workload import (
    LARGEST_IMAGES as LARGEST_IMAGES,
)
from .workload import (
    OBJECTIVE_NAMES as OBJECTIVE_NAMES,
)
from .workload import (
    Workload as Workload,
)
from .workload import (
    as_workload as as_workload,
)
from .workload import (
    read_image_size as read_image_size,
)
from .workload import (
    resolve_workload as resolve_workload,
)

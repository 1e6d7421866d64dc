# What other subpackages may import from here; each name is loaded when it is first asked for.
from .blocks import (
    BlockSite as BlockSite,
)
from .blocks import (
    partition as partition,
)
from .boundary import (
    is_of_a_library as is_of_a_library,
)
from .boundary import (
    of_the_library as of_the_library,
)
from .boundary import (
    value_of as value_of,
)
from .build import (
    build_skeleton as build_skeleton,
)
from .build import (
    declared_no_split as declared_no_split,
)
from .config import (
    CONFIG_FILE as CONFIG_FILE,
)
from .config import (
    VOLATILE_KEYS as VOLATILE_KEYS,
)
from .config import (
    config_hash as config_hash,
)
from .config import (
    library_and_class as library_and_class,
)
from .config import (
    names_code as names_code,
)
from .config import (
    parse_object as parse_object,
)
from .config import (
    read_config_text as read_config_text,
)
from .config import (
    require_inside as require_inside,
)
from .factory import (
    is_factory as is_factory,
)
from .files import (
    PIPELINE_FILE as PIPELINE_FILE,
)
from .files import (
    described_pipeline as described_pipeline,
)
from .files import (
    named_components as named_components,
)
from .files import (
    parse_pipeline_index as parse_pipeline_index,
)
from .files import (
    whole_config as whole_config,
)
from .folder import (
    folder_files as folder_files,
)
from .folder import (
    is_path as is_path,
)
from .from_catalog import (
    did_you_mean as did_you_mean,
)
from .from_catalog import (
    resolve_catalogue as resolve_catalogue,
)
from .native import (
    native_class as native_class,
)
from .native import (
    remote_auto_class as remote_auto_class,
)
from .native import (
    remote_class_reference as remote_class_reference,
)
from .pipeline_module import (
    PipelineModule as PipelineModule,
)
from .pipeline_module import (
    component_class as component_class,
)
from .quiet import (
    never_asked as never_asked,
)
from .quiet import (
    quiet_diffusers as quiet_diffusers,
)
from .resolution import (
    model_path as model_path,
)
from .resolution import (
    refuse_named_code as refuse_named_code,
)
from .resolution import (
    resolve as resolve,
)
from .source import (
    Component as Component,
)
from .source import (
    ModelSource as ModelSource,
)
from .source import (
    Skeleton as Skeleton,
)
from .source import (
    StoredTensor as StoredTensor,
)
from .stored_tensors import (
    parse_shard_index as parse_shard_index,
)
from .stored_tensors import (
    read_header as read_header,
)

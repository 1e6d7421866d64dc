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
    one_line as one_line,
)
from .build import (
    build_skeleton as build_skeleton,
)
from .build import (
    declared_no_split as declared_no_split,
)
from .component_classes import (
    component_class as component_class,
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
from .factory import (
    is_factory as is_factory,
)
from .folder import (
    described_pipeline as described_pipeline,
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
from .inside import (
    require_inside as require_inside,
)
from .integers import (
    value_of as value_of,
)
from .named import (
    model_path as model_path,
)
from .named import (
    refuse_named_code as refuse_named_code,
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
from .pipeline_source import (
    PIPELINE_FILE as PIPELINE_FILE,
)
from .pipeline_source import (
    named_components as named_components,
)
from .pipeline_source import (
    parse_pipeline_index as parse_pipeline_index,
)
from .pipeline_source import (
    whole_config as whole_config,
)
from .quiet_libraries import (
    quiet_diffusers as quiet_diffusers,
)
from .resolution import (
    resolve as resolve,
)
from .skeleton import (
    Component as Component,
)
from .skeleton import (
    Skeleton as Skeleton,
)
from .source import (
    ModelSource as ModelSource,
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
from .unasked import (
    never_asked as never_asked,
)

# What other subpackages may import from here; each name is loaded when it is first asked for.
from .example import (
    NUM_STEPS as NUM_STEPS,
)
from .example import (
    example_inputs as example_inputs,
)
from .facts import (
    Facts as Facts,
)
from .images import (
    FRAMES as FRAMES,
)
from .plain import (
    plain_inputs as plain_inputs,
)
from .request import (
    LEAST_TEXT as LEAST_TEXT,
)
from .request import (
    ExampleInputs as ExampleInputs,
)
from .request import (
    InputRequest as InputRequest,
)
from .request import (
    NoExampleInputs as NoExampleInputs,
)
from .request import (
    refuse_images_not_taken as refuse_images_not_taken,
)
from .request import (
    request_for as request_for,
)
from .running import (
    MOST_OPS as MOST_OPS,
)
from .running import (
    run_as_asked as run_as_asked,
)
from .running import (
    run_as_usual as run_as_usual,
)
from .running import (
    run_few_tokens as run_few_tokens,
)
from .sounds import (
    SPECTROGRAMS as SPECTROGRAMS,
)
from .sounds import (
    WAVEFORMS as WAVEFORMS,
)
from .user import (
    user_function as user_function,
)
from .user import (
    user_inputs as user_inputs,
)

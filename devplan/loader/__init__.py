"""Loads a checkpoint by its map, and checks that every tensor is where the map says.

    map + stand-ins -> Target                      what the model must look like on this machine
    Target + model -> class and arguments          how ``from_pretrained`` is called
    checkpoint files -> checked                    before anything is loaded
    from_pretrained -> hooks -> audit -> model     `load`
    model + Target -> hooks -> audit               `apply`

transformers, diffusers and accelerate load and dispatch the model.  This subpackage decides how
they are called and audits the result.

On a machine without the GPUs of a map, **stand-ins** replace them: with
``devices={"cuda:0": "cpu", "cuda:1": "cpu"}`` the whole model is on the CPU, with the hooks that it
would have on the GPUs.

Nothing is imported here: ``import devplan`` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

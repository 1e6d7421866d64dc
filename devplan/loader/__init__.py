"""The loader: a model that lies where its map says, or a clear line why not.

    map + stand-ins -> Target                                what is to be made true here
    Target + model -> class, arguments                       what ``from_pretrained`` is called with
    checkpoint files -> checked                              before anything is loaded
    from_pretrained -> hooks -> audit -> model               the way of `load`
    model + Target -> hooks -> audit                         the way of `apply`

transformers, diffusers and accelerate do the loading and the dispatching; what is here decides how
they are called, and looks afterwards at what they made.

A map speaks of cards.  On a machine without them, **stand-ins** take their place: with
``devices={"cuda:0": "cpu", "cuda:1": "cpu"}`` the whole model lies on the CPU with the hooks that
it would have on the cards.

Nothing is imported here: ``import devplan`` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

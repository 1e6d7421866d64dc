"""Default configurations that cannot be used, with what makes them usable.

Some classes have defaults that contradict each other or leave out what the code reads; values are
those of a published model of the type where one is known, else the smallest that fit.
"""

USABLE: dict[str, dict] = {
    "blip-2": {"image_token_index": 50265},
    "instructblip": {"image_token_index": 32000},
    "instructblipvideo": {"video_token_index": 32000},
}

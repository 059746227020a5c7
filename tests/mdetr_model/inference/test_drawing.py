"""The drawing of grounded objects."""

import numpy as np
from PIL import Image

from mdetr_model.inference.drawing import MARGIN, draw_objects
from mdetr_model.inference.ground import GroundedObject

CAPTION = "a red ball near the small dog"


def test_words_have_the_color_of_their_boxes() -> None:
    objects = [
        GroundedObject("red ball", ((2, 10),), (20.0, 10.0, 60.0, 50.0), 0.9),
        GroundedObject("small dog", ((20, 29),), (100.0, 10.0, 150.0, 50.0), 0.8),
    ]
    drawn = np.asarray(draw_objects(Image.new("RGB", (400, 80), "white"), CAPTION, objects))
    first, second = drawn[50, 40], drawn[50, 125]
    assert not np.array_equal(first, second)
    caption = drawn[80 + MARGIN :].reshape(-1, 3)
    for color in (first, second, np.zeros(3)):
        assert (caption == color).all(-1).any()


def test_caption_is_wrapped_and_objects_are_optional() -> None:
    blank = Image.new("RGB", (120, 40))
    short, long = draw_objects(blank, "a", []), draw_objects(blank, "many words " * 30, [])
    assert long.height > short.height > 40
    assert draw_objects(blank, "", []).width == 120

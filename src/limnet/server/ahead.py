"""Work done ahead, while the person looks: image features that her next click will likely need.

They are what the click itself would compute, to the bit: masks do not depend on how much was done ahead.
"""

from __future__ import annotations

from collections.abc import Iterator

from limnet.case.case import Case
from limnet.image.slices import is_empty, unpack
from limnet.interaction.predictor import SlicePredictor
from limnet.interaction.window import mask_box
from limnet.prompts import Prompt2D

SLICES = 8  # after a step: 7 MB of features with limnet-tiny, and about an eighth of a second


def work_ahead(case: Case) -> Iterator[None]:
    """A piece of work at every step of the iterator, each as short as the look at one slice.

    Before the first prompt, a click in the middle is answered and forgotten: it reads the volume's statistics and lets
    the kernels get ready. After a step it is the windows of the slices of its object nearest to it, as the next click
    on the object will look at them.
    """
    predictor, book = case._engine.predictor, case._book
    if not isinstance(predictor, SlicePredictor):
        return
    if not book.done:
        rows, columns = case.view.shape
        centre = Prompt2D("click", True, ((rows // 2, columns // 2),))
        predictor.predict(case.view, len(case.view) // 2, [centre], None)
        yield
        return
    state = book.histories[book.done[-1]].current
    if state.finished or not state.rounds:
        return
    view = case.view if state.window is None else case.view.with_window(state.window)
    filled = [i for i, stored in enumerate(state.slices) if not is_empty(stored)]
    for i in sorted(filled, key=lambda i: abs(i - state.rounds[-1].index))[:SLICES]:
        predictor.prepare(view, i, mask_box(unpack(state.slices[i], view.shape) > 0.5))
        yield

"""Child process of `HubClient`: reads calls from standard input, answers on standard output."""

from __future__ import annotations

import json
import sys

from limnet.errors import LimnetError
from limnet.hub import registry
from limnet.hub.locate import locate, push_model
from limnet.hub.model import load_model
from tests.helpers import standins


def summary(folder: str) -> dict[str, object]:
    """What was loaded, in a form that fits in a line."""
    found = load_model(folder)
    first = [float(next(net.parameters()).detach().sum()) for net in (found.interaction, found.propagation)]
    return {"class": type(found.interaction).__name__, "settings": found.settings, "card": found.card, "sums": first}


CALLS = {"locate": lambda *a, **k: str(locate(*a, **k)), "load_model": summary, "push_model": push_model}


def main() -> None:
    standins.register_for_good(registry.TABLE)
    answers, sys.stdout = sys.stdout, sys.stderr  # progress bars and chatter must not mix with the answers
    for line in sys.stdin:
        name, args, kwargs = json.loads(line)
        try:
            answer = CALLS[name](*args, **kwargs)
        except LimnetError as error:
            answer = [type(error).__name__, str(error)]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

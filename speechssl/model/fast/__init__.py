"""Fast forms of the model's parts, which compute the same numbers; the door is
:mod:`.accelerate`."""

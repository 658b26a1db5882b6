"""The desk: what to correct first, what was corrected, and what is learned from it.

``speechssl next`` chooses stretches of recordings (`queue`), a person corrects them on the page or
in a tool of theirs (`corrections`, `exchange`), and what was checked is a label (`labels`).
"""

"""A stranger's search in a process of its own, behind walls, and what may come back from there.

`search` is the harness's side, `cell` is what runs on the other. Between them lie messages
(`channel`); training data are lent (`lending`), and a ticket comes back as data (`parcel`).
"""

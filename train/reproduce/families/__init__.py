"""Families of protocols, each played in the same worlds with and without what it changes.

Reproductions of problems with real learning share it:

* ``rows.py``: what a family and a claim are, and their rows;
* ``playing.py``: many protocols are played by some processes, and what is done is kept;
* ``tables.py`` and ``pictures.py``: what is printed and drawn.
"""

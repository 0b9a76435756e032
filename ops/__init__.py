"""The ``quorate`` command: serving, development clusters, and the tools for people who run them."""

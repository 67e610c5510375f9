"""The parts of the keeper program. They import nothing but a few cheap standard modules, and each other relatively:
the keeper runs without site-packages, and most of a run's overhead is the time that its imports take.
"""

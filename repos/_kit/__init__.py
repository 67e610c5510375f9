"""What the first-party trainers share; plain modules for programs that are started, never imported by the profiler.

A trainer is started as `python <folder>/train.py` and puts the folder above `_kit` on `sys.path` itself. Importing
this package imports nothing heavy: modules that need torch say so in their docstring.
"""

"""Trainers that misbehave, each a small program of its own (standard library only), for tests of containment.

They are run as processes, never imported. Each says in its docstring what it does and what its arguments are.
"""

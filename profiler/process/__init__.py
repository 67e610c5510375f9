"""Processes: starts a run's trainer contained, ends it with everything it started, finds what is left over.

`contained` starts and holds a run, `keeper` is the program that contains it, `tiers` says what works on this machine,
`find` lists the keepers of a node. Nothing here knows Ray, energy or trainings.
"""

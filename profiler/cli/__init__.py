"""The command line: the only main, and the only place that prints. Importing it imports nothing heavy."""

"""Programs for a machine with a real NVIDIA GPU; the tests do not run them. Each prints JSON."""

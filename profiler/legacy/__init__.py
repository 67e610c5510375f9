"""Import of the result folders of the older tool: finds, reads, checks and stores them as a session. Runs nothing."""

"""Programs that run long campaigns with planted conditions on virtual hardware, and their short forms as tests."""

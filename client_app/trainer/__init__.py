"""The only process that sees patients, and the gRPC service in front of it."""

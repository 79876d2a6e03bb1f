"""What every role must agree on, as pure functions of bytes and numbers (docs/protocol.md)."""

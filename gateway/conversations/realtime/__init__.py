"""WebSocket /realtime."""

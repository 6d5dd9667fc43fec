"""What happens now, told to whoever is connected: channels, WebSockets, server-sent events, presence."""

"""The realtime protocol served by this gateway's own recogniser, chat model and voice."""

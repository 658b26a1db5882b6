"""The HTTP service: one model, shared fairly by requests (extra ``serve``)."""

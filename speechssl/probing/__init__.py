"""What the layers of frozen models know, by linear probes."""

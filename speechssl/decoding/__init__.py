"""From CTC logits to text: greedy decoding and forced alignment."""

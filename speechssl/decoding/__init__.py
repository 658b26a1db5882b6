"""From CTC log-probabilities to text: greedy, by beam search with a language model, aligned."""

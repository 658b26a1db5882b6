"""Word and character error rates with intervals, paired comparison, alignments."""

"""Studies: the comparisons of papers 1 to 4, each on the user's own corpora."""

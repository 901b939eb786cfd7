"Sequence tagging: corpora from files, batches, the encoder and its heads, scores."

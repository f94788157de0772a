"""Images with boxes, from wherever they are, to batches."""

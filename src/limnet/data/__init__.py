"""From labelled images to batches: cases, their cache, clips drawn from them, loaders."""

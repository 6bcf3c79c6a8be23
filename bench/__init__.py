"""Speed and memory beside the peers: paired ratios in one interleaved run, never a timed test."""

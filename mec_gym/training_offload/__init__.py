"""Room: split a training job over device, edge servers and cloud while moving (seed 000)."""

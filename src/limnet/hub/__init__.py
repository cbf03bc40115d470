"""Hub: model folders, the zoo, cards and conversion of public checkpoints."""

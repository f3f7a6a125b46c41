"""What is explained: models with data."""

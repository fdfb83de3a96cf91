"""What is sent here by others than GitHub: observations of models, alerts, samples, events."""

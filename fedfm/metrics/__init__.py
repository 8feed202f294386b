"""Quality of the model, computed from counts that can be added over sites."""

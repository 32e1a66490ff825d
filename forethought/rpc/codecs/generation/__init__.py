"""Messages of GenerationService, to values and back."""

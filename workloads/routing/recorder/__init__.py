"""Records how Hugging Face models route; torch and transformers (the extra `record`) are imported when it starts."""

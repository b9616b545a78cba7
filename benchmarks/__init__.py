"""What is measured side by side with others, by one command each."""

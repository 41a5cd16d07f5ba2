"""What templates of the app can use."""

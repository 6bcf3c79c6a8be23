"""What others have printed or measured, read here and marked as theirs; nothing is trained or measured."""

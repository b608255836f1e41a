"""What people ask of models before running them: which there are, what they are, adding one."""

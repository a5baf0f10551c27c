"""The tests: a file for each module or subject; what they share is in `helpers`."""

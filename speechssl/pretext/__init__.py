"""Pretext tasks: one file a task, behind one interface (task.py), collected in tasks.py."""

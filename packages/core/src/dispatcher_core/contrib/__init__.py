"""Hooks for frameworks. Nothing here is imported unless a setting names it."""

"""The subcommands of ``dispatcher`` that come with core."""

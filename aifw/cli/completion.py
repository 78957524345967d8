"""`aifw completion`: the script with which a shell completes verbs, options, addresses and aliases."""

from __future__ import annotations

import click

from aifw.errors import ExitStatus

_HOW = {
    "bash": 'Put `eval "$(aifw completion bash)"` into ~/.bashrc.',
    "zsh": 'Put `eval "$(aifw completion zsh)"` into ~/.zshrc.',
    "fish": "Run `aifw completion fish > ~/.config/fish/completions/aifw.fish`.",
}


@click.command(epilog="\n\n".join(_HOW.values()))
@click.argument("shell", type=click.Choice(list(_HOW)))
def command(shell: str) -> int:
    """Print the script with which a shell completes verbs, options, addresses and aliases."""
    from click.shell_completion import get_completion_class

    from aifw.cli.main import main

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "aifw", "_AIFW_COMPLETE").source())
    return ExitStatus.DONE

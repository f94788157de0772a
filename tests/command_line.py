"""How the tests run the command."""

from keras_cbam.cli import main


def fails(capsys, code, *arguments, command="train"):
    """Runs the command; it must fail with this code and one sentence, which is returned."""
    try:
        status = main([command, *arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == code
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]

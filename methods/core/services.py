"""What a search may ask of the program that runs it."""


class Interrupted(BaseException):
    """The process must end now; its work is saved, or nothing is lost.

    It is not a SystemExit, which a method raises when it calls `sys.exit`.
    """

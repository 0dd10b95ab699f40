"""`python -m paibench.methods.conformance METHOD CASE...`: each case's result as a line of JSON."""

import json
import os
import sys


def main() -> int:
    """Run the cases in the order in which they are named."""
    method, *cases = sys.argv[1:]
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the finder prints is no result
    from paibench.methods.conformance.runner import results
    from paibench.methods.core.registry import UserError

    try:
        for result in results(method, cases):
            said.write(json.dumps(result.plain) + "\n")
    except UserError as error:
        said.write(json.dumps({"error": str(error)}) + "\n")
        return 2
    said.flush()
    os._exit(0)  # threads that the finder left behind are not waited for


if __name__ == "__main__":
    sys.exit(main())

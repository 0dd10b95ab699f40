"""`python -m paibench.methods.conformance METHOD CASE...` prints each result as a line of JSON."""

import json
import os
import sys


def main() -> int:
    """Run the cases in the order of the arguments."""
    method, *cases = sys.argv[1:]
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of the finder must not look like results
    from paibench.methods.conformance.cases import results
    from paibench.methods.core.registry import UserError

    try:
        for result in results(method, cases):
            output.write(json.dumps(result.plain) + "\n")
    except UserError as error:
        output.write(json.dumps({"error": str(error)}) + "\n")
        return 2
    output.flush()
    os._exit(0)  # do not wait for threads that the finder left running


if __name__ == "__main__":
    sys.exit(main())

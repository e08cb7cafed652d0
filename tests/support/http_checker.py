# Checks each address of the command line with REDbot. Prints a line of JSON for each: the status, and the notes of REDbot
# that are worse than "good" and "info".
import json
import os
import signal
import sys
from configparser import ConfigParser

import thor
from redbot.resource import HttpResource

# Seconds for one address, on a machine that stalls at times.
PATIENCE = 60


def check(uri):
    parser = ConfigParser()
    parser.read_dict({"redbot": {"enable_local_access": "True"}})
    resource = HttpResource(parser["redbot"])
    resource.set_request(uri)

    @thor.events.on(resource)
    def check_done():
        thor.stop()

    resource.check()
    thor.run()
    fetches = [resource, *resource.subreqs.values()]
    notes = [note for fetch in fetches for note in fetch.response.notes]
    found = [
        {"note": type(note).__name__, "level": note.level.name, "subject": note.subject, "text": str(note.summary)}
        for note in notes
        if note.level.name not in ("GOOD", "INFO")
    ]
    print(json.dumps({"uri": uri, "status": resource.response.status_code, "found": found}), flush=True)


for uri in sys.argv[1:]:
    # A process for each: thor's loop has one run, and its clients keep connections.
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        check(uri)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"{uri}: not checked within {PATIENCE} s, or failed: {status}")

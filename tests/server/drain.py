"""SIGTERM: what is being written is written to its end, nothing new is taken.

    drain.py URL PID
"""

import os
import signal
import sys

from client import Client

client = Client(sys.argv[1])
body = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}
whole = client.ok("/v1/completions", body)["choices"][0]["text"]
stream = client.stream("/v1/completions", body)
text = next(stream)["choices"][0]["text"]
os.kill(int(sys.argv[2]), signal.SIGTERM)
refused = False
for chunk in stream:
    if chunk is None:
        assert text == whole, text
        assert refused
        print("ok")
        sys.exit(0)
    text += chunk["choices"][0]["text"]
    if not refused:
        refused = client.call("/v1/completions", body)[0] == 503 and client.call("/health")[0] == 503
sys.exit("the stream broke off")

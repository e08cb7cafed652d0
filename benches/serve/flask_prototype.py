"""The prototype of this project: one generator for each listener, behind Flask's own threaded server.

    flask_prototype.py PORT SAMPLES

SAMPLES is a raw file that is played in a loop, 4096 frames at a time and in real time: 44.1 kHz, stereo, 16 bit.
"""

import struct
import sys
import time

from flask import Flask, Response

RATE, CHANNELS, FRAMES = 44100, 2, 4096
BLOCK = FRAMES * CHANNELS * 2

app = Flask(__name__)
with open(sys.argv[2], "rb") as file:
    samples = file.read()


def header():
    bytes_a_second = RATE * CHANNELS * 2
    form = struct.pack("<HHIIHH", 1, CHANNELS, RATE, bytes_a_second, CHANNELS * 2, 16)
    endless = struct.pack("<I", 0xFFFFFFFF)
    return b"RIFF" + endless + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + endless


@app.route("/live.wav")
def live():
    def sound():
        yield header()
        began, sent = time.monotonic(), 0
        while True:
            at = sent * BLOCK % len(samples)
            sent += 1
            time.sleep(max(0.0, began + sent * FRAMES / RATE - time.monotonic()))
            yield samples[at : at + BLOCK] + samples[: max(0, at + BLOCK - len(samples))]

    return Response(sound(), mimetype="audio/wav")


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)

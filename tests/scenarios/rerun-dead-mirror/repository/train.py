"""Downloads a few rows and fits a line through them."""

import socket
import time

import mirror

with socket.create_connection(mirror.start(), timeout=5) as connection:
    connection.sendall(b"GET line.csv\n")
    time.sleep(0.05)
    received = b""
    while part := connection.recv(1024):
        received += part
rows = [[float(cell) for cell in line.split(",")] for line in received.decode().splitlines()[1:]]
slope = (rows[-1][1] - rows[0][1]) / (rows[-1][0] - rows[0][0])
print(f"{len(rows)} rows, slope {slope}")

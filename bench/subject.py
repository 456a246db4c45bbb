"""The measured process, as an asyncio program would be written: streams, a reader and a writer.

What it is asked, and what it prints, is as in subject.mjs.

    subject.py --task receive|send|both|echo|lives --port N --ca FILE --total N --warm N
               --size N --connections N
"""

import argparse
import asyncio
import json
import ssl
import time

READ_SIZE = 64 * 1024


def request(*words):
    return " ".join(str(word) for word in words).ljust(64).encode()


async def receive(reader, left):
    while left > 0:
        chunk = await reader.read(READ_SIZE)
        if not chunk:
            raise EOFError("the load closed early")
        left -= len(chunk)


async def send(writer, left, message):
    while left > 0:
        writer.write(message)
        await writer.drain()
        left -= len(message)


async def work(task, reader, writer, amount, message):
    size = len(message)
    if task == "receive":
        writer.write(request("source", amount, size))
        await receive(reader, amount)
    elif task == "send":
        writer.write(request("sink", amount))
        await send(writer, amount, message)
        await receive(reader, 1)
    elif task == "both":
        writer.write(request("both", amount, size))
        await asyncio.gather(send(writer, amount, message), receive(reader, amount + 1))
    else:
        writer.write(request("echo", amount, size))
        for _ in range(amount):
            writer.write(message)
            await reader.readexactly(size)


async def close(writer):
    writer.close()
    await writer.wait_closed()


async def main():
    parser = argparse.ArgumentParser()
    for name in ("task", "ca"):
        parser.add_argument(f"--{name}")
    for name in ("port", "total", "warm", "size", "connections"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args()
    context = ssl.create_default_context(cafile=options.ca)

    def connect():
        return asyncio.open_connection("127.0.0.1", options.port, ssl=context)

    workers = []
    message = b"x" * options.size

    async def transfer(total):
        share = total // len(workers)
        await asyncio.gather(
            *(work(options.task, reader, writer, share, message) for reader, writer in workers)
        )

    async def live(total):
        left = total

        async def loop():
            nonlocal left
            while left > 0:
                left -= 1
                _, writer = await connect()
                await close(writer)

        await asyncio.gather(*(loop() for _ in range(options.connections)))

    once = live
    if options.task != "lives":
        once = transfer
        workers += [await connect() for _ in range(options.connections)]
    await once(options.warm)
    cpu, start = time.process_time(), time.perf_counter()
    await once(options.total)
    wall = time.perf_counter() - start
    print(json.dumps({"amount": options.total, "wall": wall, "cpu": time.process_time() - cpu}))
    await asyncio.gather(*(close(writer) for _, writer in workers))


asyncio.run(main())

"""A worker that misbehaves on command: `POST /predict` with a think time, `GET /healthz`, and `PUT /mode/NAME`.

Run as `scripted_worker.py PORT THINK_MILLISECONDS`. The modes are those of `answer`.
"""

import asyncio
import json
import sys

ANSWER = {"prediction": "setosa", "version": "1", "usage": {"input_tokens": 3, "output_tokens": 2}}


class Worker:
    def __init__(self, think_seconds: float) -> None:
        self.think_seconds = think_seconds
        self.mode = "well"
        self.seen: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                fields = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                await reader.readexactly(int(fields.get("content-length", "0")))
                if target == "/predict":
                    self.seen.append(fields.get("x-request-id", ""))
                    if not await self.answer(writer, served):
                        return
                    served += 1
                else:
                    self.control(method, target, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def control(self, method: str, target: str, writer: asyncio.StreamWriter) -> None:
        if method == "PUT" and target.startswith("/mode/"):
            self.mode = target.removeprefix("/mode/")
            self.seen.clear()
            send(writer, 200, {})
        elif target == "/seen":
            send(writer, 200, self.seen)
        else:
            send(writer, 200 if target == "/healthz" else 404, {})

    async def answer(self, writer: asyncio.StreamWriter, served: int) -> bool:
        """Answers a prediction; returns whether the connection goes on."""
        match self.mode:
            case "slow":
                await asyncio.sleep(2)
            case "hang":
                await asyncio.sleep(600)
            case "trickle":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
                for _ in range(600):
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "hang-up":
                return False
            case "stale":
                # Takes a request on a kept connection and closes it without a byte, as one that ran out does.
                if served > 0:
                    return False
            case _:
                await asyncio.sleep(self.think_seconds)
        match self.mode:
            case "500" | "503" | "400" | "404" | "413" | "422" | "429":
                send(writer, int(self.mode), {"error": "as told"})
            case "nonsense":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>no!")
            case "garbage":
                writer.write(b"\x00\x01\x02 no HTTP at all\r\n\r\n")
                return False
            case _:
                send(writer, 200, ANSWER)
        return True


def send(writer: asyncio.StreamWriter, status: int, body: object) -> None:
    payload = json.dumps(body).encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
        + payload
    )


async def main() -> None:
    worker = Worker(int(sys.argv[2]) / 1000)
    server = await asyncio.start_server(worker.serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

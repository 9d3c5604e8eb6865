"""A worker that speaks the OpenAI API and does what each request tells it to.

Run as `openai_worker.py PORT`. A request's own field `script` says how it is answered:

    chunks      pieces of text in a stream, one token each (4)
    gate        a name: piece n is sent only once `PUT /gate/NAME/n` has let it through
    usage       what the usage says: a document; `null` for none; left out for the truth
    each_usage  every piece has the usage so far
    break_after pieces after which the connection is cut; with `break_bytes` so many bytes of the next one are sent first
    error_after pieces after which an error event is sent, and the end
    hang_after  pieces after which nothing comes any more
    after_done  bytes that are sent behind the last event
    silent      no byte of an answer comes, and no head
    no_done     the stream ends without its last event
    status      of an answer that is none
    overrun     goes on behind max_tokens
    pause_ms    between two pieces
    delay_ms    before an answer in one piece

`GET /seen` lists what came: path, body, pieces sent, and whether the caller went away. `GET /health` is there.
"""

import asyncio
import json
import sys
from typing import Any


class Worker:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.gates: dict[str, int] = {}
        self.opened = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                if target.startswith("/v1/"):
                    if not await self.answer(target, json.loads(body), reader, writer):
                        return
                elif target.startswith("/gate/"):
                    _, _, name, count = target.split("/")
                    self.gates[name] = int(count)
                    async with self.opened:
                        self.opened.notify_all()
                    send(writer, 200, {})
                elif target == "/seen":
                    send(writer, 200, self.seen)
                else:
                    send(writer, 200 if target == "/health" else 404, {})
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(
        self, target: str, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        script = body.get("script", {})
        record = {"path": target, "body": body, "sent": 0, "gone": False}
        self.seen.append(record)
        if script.get("silent"):
            await asyncio.sleep(600)
        if "status" in script:
            send(writer, script["status"], {"error": {"message": "as told", "type": "x", "param": None, "code": None}})
            return True
        if target == "/v1/embeddings":
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            count = sum(len(str(text).split()) for text in inputs)
            send(writer, 200, {
                "object": "list", "model": "/disk/model.bin",
                "data": [{"object": "embedding", "index": i, "embedding": [0.5, len(str(t))]} for i, t in enumerate(inputs)],
                "usage": {"prompt_tokens": count, "total_tokens": count},
            })
            return True
        asked = script.get("chunks", 4)
        bound = body.get("max_completion_tokens") or body.get("max_tokens") or asked
        chunks = asked if script.get("overrun") else min(asked, bound)
        reason = "stop" if chunks == asked else "length"
        usage = script.get("usage", {
            "prompt_tokens": prompt_tokens(body), "completion_tokens": chunks,
            "total_tokens": prompt_tokens(body) + chunks,
        })
        if body.get("stream"):
            watch = asyncio.ensure_future(self.watch(reader, record))
            try:
                return await self.stream(target, body, script, record, chunks, reason, usage, writer)
            finally:
                watch.cancel()
        await asyncio.sleep(script.get("delay_ms", 0) / 1000)
        text = "".join(piece(i) for i in range(chunks))
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if target == "/v1/completions":
            choice["text"] = text
        else:
            choice["message"] = {"role": "assistant", "content": text}
        answer = {"id": "cmpl-1", "object": "chat.completion", "created": 1, "model": "/disk/model.bin", "choices": [choice]}
        if usage is not None:
            answer["usage"] = usage
        send(writer, 200, answer)
        return True

    async def watch(self, reader: asyncio.StreamReader, record: dict[str, Any]) -> None:
        """Nothing may come while a stream runs, so whatever ends the waiting is the caller's leaving."""
        try:
            if not await reader.read(1):
                record["gone"] = True
        except ConnectionError:
            record["gone"] = True
        async with self.opened:
            self.opened.notify_all()

    async def stream(
        self, target: str, body: dict[str, Any], script: dict[str, Any], record: dict[str, Any], chunks: int,
        reason: str, usage: Any, writer: asyncio.StreamWriter,
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        base = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "/disk/model.bin"}
        is_text = target == "/v1/completions"
        if not is_text:
            event(writer, base | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
        for index in range(chunks):
            if index == script.get("hang_after"):
                await asyncio.sleep(600)
            if index == script.get("error_after"):
                event(writer, {"error": {"message": "out of memory", "type": "x", "param": None, "code": None}})
                return False
            if "gate" in script:
                async with self.opened:
                    await self.opened.wait_for(lambda: self.gates.get(script["gate"], 0) > index or record["gone"])
            if record["gone"]:
                return False
            delta = {"text": piece(index)} if is_text else {"delta": {"content": piece(index)}}
            document = base | {"choices": [{"index": 0, "finish_reason": None} | delta]}
            if script.get("each_usage"):
                document["usage"] = {"prompt_tokens": prompt_tokens(body), "completion_tokens": index + 1}
            if index == script.get("break_after"):
                writer.write(chunked(document)[: script.get("break_bytes", 0)])
                await writer.drain()
                return False
            event(writer, document)
            await writer.drain()
            record["sent"] = index + 1
            if script.get("pause_ms"):
                await asyncio.sleep(script["pause_ms"] / 1000)
        last = {"text": ""} if is_text else {"delta": {}}
        event(writer, base | {"choices": [{"index": 0, "finish_reason": reason} | last]})
        if usage is not None and body.get("stream_options", {}).get("include_usage"):
            event(writer, base | {"choices": [], "usage": usage})
        if not script.get("no_done"):
            writer.write(frame(b"data: [DONE]\n\n"))
        try:
            for _ in range(script.get("after_done", 0) // 65536):
                writer.write(frame(b": " + b"x" * 65532 + b"\n\n"))
                await writer.drain()
        except ConnectionError:
            record["gone"] = True
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return False


def prompt_tokens(body: dict[str, Any]) -> int:
    texts = [str(m.get("content", "")) for m in body["messages"]] if "messages" in body else [str(body["prompt"])]
    return sum(len(text.split()) for text in texts)


def piece(index: int) -> str:
    return f" w{index}"


def frame(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunked(document: Any) -> bytes:
    return frame(b"data: " + json.dumps(document).encode() + b"\n\n")


def event(writer: asyncio.StreamWriter, document: Any) -> None:
    writer.write(chunked(document))


def send(writer: asyncio.StreamWriter, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def main(port: int) -> None:
    worker = Worker()
    server = await asyncio.start_server(worker.serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

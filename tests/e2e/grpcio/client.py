"""A caller of gRPC that knows nothing of Weir: grpcio (C-core).

client.py TARGET takes orders on standard input, each a line of JSON, and answers each with a line. One channel has all
calls of a run, and so one connection. Orders:

  {"call": METHOD, "message": TEXT, "metadata": {...}, "timeout": SECONDS, "times": N}   N unary calls, one after another
  {"open": NAME, "call": METHOD, "metadata": {...}, "timeout": SECONDS}                  a stream of messages both ways
  {"say": TEXT, "on": NAME}                                                              one message there and back
  {"close": NAME}                                                                        ends the stream's own side
  {"cancel": NAME}

An answer has `code` (0 when all is well), `details`, and `messages`, what came back.
"""

import json
import queue
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_retries", 0)])
streams = {}


def fields(order):
    return tuple(order.get("metadata", {}).items())


def ended(error):
    trailers = dict(error.trailing_metadata() or ())
    return {"code": error.code().value[0], "details": error.details(), "cause": trailers.get("x-weir-cause")}


def call(order):
    method = channel.unary_unary(order["call"])
    messages = []
    for _ in range(order.get("times", 1)):
        try:
            reply = method(order["message"].encode(), metadata=fields(order), timeout=order.get("timeout", 10))
            messages.append(reply.decode())
        except grpc.RpcError as error:
            return {**ended(error), "messages": messages}
    return {"code": 0, "messages": messages}


def outgoing(sent):
    while (message := sent.get()) is not None:
        yield message


def start(order):
    sent = queue.Queue()
    method = channel.stream_stream(order["call"])
    received = method(outgoing(sent), metadata=fields(order), timeout=order.get("timeout", 30))
    streams[order["open"]] = (sent, received)
    return {"code": 0}


def receive(name):
    try:
        return {"code": 0, "messages": [next(streams[name][1]).decode()]}
    except StopIteration:
        return {"code": 0, "messages": []}
    except grpc.RpcError as error:
        return {**ended(error), "messages": []}


def obey(order):
    if "open" in order:
        return start(order)
    if "say" in order:
        streams[order["on"]][0].put(order["say"].encode())
        return receive(order["on"])
    if "listen" in order:
        return receive(order["listen"])
    if "close" in order:
        streams[order["close"]][0].put(None)
        return receive(order["close"])
    if "cancel" in order:
        streams[order["cancel"]][1].cancel()
        return {"code": 0}
    return call(order)


for line in sys.stdin:
    print(json.dumps(obey(json.loads(line))), flush=True)

"""A server of gRPC that knows nothing of Weir: grpcio (C-core) with messages that are plain bytes.

server.py NAME PORT. Prints `listening`, and a line for every call that its caller cancelled. The service weir.Echo has

  Say    answers its message with `NAME: ` before it
  Chat   the same for each message of a stream, as they come
  Fail   ends with the code and the details in the metadata x-code and x-details
  Hang   sends its name once, then nothing, until it is cancelled
"""

import sys
import threading
from concurrent import futures

import grpc

NAME, PORT = sys.argv[1].encode(), sys.argv[2]


def metadata(context):
    return dict(context.invocation_metadata())


def say(request, context):
    context.set_trailing_metadata((("x-served-by", NAME.decode()),))
    return NAME + b": " + request


def chat(requests, context):
    for request in requests:
        yield NAME + b": " + request


def fail(request, context):
    asked = metadata(context)
    code = next(code for code in grpc.StatusCode if code.value[0] == int(asked["x-code"]))
    context.abort(code, asked.get("x-details", ""))


def hang(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    yield NAME
    ended.wait()
    print("cancelled", flush=True)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/weir.Echo/Say": grpc.unary_unary_rpc_method_handler(say),
            "/weir.Echo/Chat": grpc.stream_stream_rpc_method_handler(chat),
            "/weir.Echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
            "/weir.Echo/Hang": grpc.unary_stream_rpc_method_handler(hang),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((Echo(),))
assert server.add_insecure_port(f"[::]:{PORT}")
server.start()
print("listening", flush=True)
server.wait_for_termination()

"""A gRPC server that answers each call with the traceparent that came with it. Prints its port. Ends when its input does."""

import sys
from concurrent import futures

import grpc


def traceparent(context):
    for key, value in context.invocation_metadata():
        if key == "traceparent":
            return value.encode()
    return b"none"


def fails(context):
    """Refuses the first attempt of a call, so that the answer shows which attempt it belongs to."""
    sent = dict(context.invocation_metadata())
    if "grpc-previous-rpc-attempts" not in sent:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now " + sent["traceparent"])


def unary(_request, context):
    fails(context)
    return traceparent(context)


def client_stream(requests, context):
    fails(context)
    for _ in requests:
        pass
    return traceparent(context)


def server_stream(_request, context):
    fails(context)
    yield traceparent(context)


def bidi_stream(requests, context):
    fails(context)
    for _ in requests:
        yield traceparent(context)


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "BidiStream": grpc.stream_stream_rpc_method_handler(bidi_stream),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("compat.Echo", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None).wait()

"""`deploykit serve`: deployed files behind the Open Inference Protocol v2, over HTTP and gRPC.

What the protocol says is plain data in, plain data out (`tensors`, `inference`, `description`) and knows no web server; `models`
keeps the files that answer; `app` is the HTTP side, `grpc_calls` the other. Between a socket and `app` stand `door`, which refuses
where there is no room, and `gate`; `grpc_service` is that for gRPC, `process` their begin and end, `server` puts it all together.
"""

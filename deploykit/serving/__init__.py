"""`deploykit serve`: deployed files behind the Open Inference Protocol v2, over HTTP and gRPC.

What the protocol says is plain data in, plain data out (`tensors`, `inference`, `description`) and knows no web server; `models`
keeps the files that answer; `app` is the HTTP side, `grpc_service` the other, `server` the process around both.
"""

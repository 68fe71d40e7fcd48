#!/bin/sh
# Ask a server about one image file with curl.
#
# deploykit serve trained/lenet5/model.onnx
# sh examples/clients/image.sh http://127.0.0.1:8000 lenet5 three.png
exec curl --silent --show-error --fail-with-body --data-binary "@$3" "$1/v2/models/$2/predict?top=3"

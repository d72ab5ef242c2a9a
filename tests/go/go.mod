module zk-autograd.example/crosscheck

go 1.24.0

require (
	filippo.io/torchwood v0.8.0
	github.com/fxamacker/cbor/v2 v2.5.0
	github.com/veraison/go-cose v1.3.0
	golang.org/x/mod v0.29.0
)

require (
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.44.0 // indirect
	golang.org/x/sync v0.18.0 // indirect
)
